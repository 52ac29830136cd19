// One client: where it is live, what it did, what it meets, and denying it.

import { type UseQueryResult, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useParams } from "react-router";
import { clientQuery } from "../../api/queries/clients";
import { listenersQuery } from "../../api/queries/listeners";
import { policiesQuery } from "../../api/queries/policies";
import type { Client, Commit, Listener, Policy } from "../../api/types";
import { Name } from "../../components/name";
import { PageHeader } from "../../components/page-header";
import { QueryProblem } from "../../components/problem-alert";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { ClientLive } from "./client-live";
import { ClientMeets } from "./client-meets";
import classes from "./client-page.module.css";
import { ClientWindows } from "./client-windows";
import { DeniedNotice } from "./denied-notice";
import { DenyDialog } from "./deny-dialog";
import { meetings } from "./meets";

export default function ClientPage() {
  const { ip = "" } = useParams();
  const client = useQuery(clientQuery(ip));
  const listeners = useQuery(listenersQuery);
  const policies = useQuery(policiesQuery);
  const queries = useQueryClient();
  const [opened, setOpened] = useState(false);
  // Made anew for every opening: it begins with what is there now.
  const [openings, setOpenings] = useState(0);
  const open = () => {
    setOpenings(openings + 1);
    setOpened(true);
  };
  const [denied, setDenied] = useState<{ commit: Commit; cidr: string }>();
  const name = client.data?.client ?? ip;
  return (
    <div className={classes.page}>
      <PageHeader
        title={name}
        heading={<Name copy>{name}</Name>}
        parent={{ title: "Clients", to: "/clients" }}
        about={name.includes("/") ? "Counted as one client: all of this IPv6 /64." : undefined}
      >
        {client.data && listeners.data && policies.data && (
          <>
            <RoleButton needs="operator" variant="default" onClick={open}>
              Deny this client
            </RoleButton>
            <DenyDialog
              key={openings}
              client={client.data.client}
              listeners={listeners.data}
              policies={policies.data}
              opened={opened}
              onClose={() => setOpened(false)}
              onDone={(commit, cidr) => {
                setDenied({ commit, cidr });
                void queries.invalidateQueries();
              }}
            />
          </>
        )}
      </PageHeader>
      <QueryProblem query={client} what="This client could not be read." />
      {denied && <DeniedNotice {...denied} onUndone={() => setDenied(undefined)} />}
      {client.data && <Content client={client.data} listeners={listeners} policies={policies} />}
    </div>
  );
}

interface ContentProps {
  client: Client;
  listeners: UseQueryResult<Listener[]>;
  policies: UseQueryResult<Policy[]>;
}

function Content({ client, listeners, policies }: ContentProps) {
  return (
    <>
      <div className={classes.two}>
        <Section title="Live now" flush>
          <ClientLive client={client} />
        </Section>
        <Section title="What it did" flush>
          <ClientWindows client={client} />
        </Section>
      </div>
      <Section title="What it meets" flush>
        <QueryProblem query={listeners} what="The listeners could not be read." />
        <QueryProblem query={policies} what="The policies could not be read." />
        {listeners.data && policies.data && (
          <ClientMeets meetings={meetings(client, listeners.data, policies.data)} />
        )}
      </Section>
    </>
  );
}
