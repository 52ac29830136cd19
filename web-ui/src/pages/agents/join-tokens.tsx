// Join tokens that can still be used, and the way to take one back.

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { deleteJoinToken, joinTokensQuery } from "../../api/queries/agents";
import type { Agent, JoinTokenInfo } from "../../api/types";
import { Ago } from "../../components/ago";
import { ConfirmAction } from "../../components/confirm-action";
import { type Column, DataTable } from "../../components/data-table";
import { Name } from "../../components/name";
import { useNotices } from "../../components/notices";
import { RoleButton } from "../../components/role-button";
import { Section } from "../../components/section";
import { useNow } from "../../components/use-now";
import { counted } from "../../format/numbers";
import { labelWords } from "./agent-state";
import classes from "./agents.module.css";

export function JoinTokens({ agents }: { agents: Agent[] | undefined }) {
  const tokens = useQuery(joinTokensQuery);
  const now = useNow();
  const [removing, setRemoving] = useState<JoinTokenInfo>();
  const client = useQueryClient();
  const { notify } = useNotices();
  const remove = useMutation({ mutationFn: (id: string) => deleteJoinToken(id) });
  const open = (tokens.data ?? []).filter(
    (token) => token.used < token.uses && Date.parse(token.expires_at) > now,
  );
  if (open.length === 0) return null;
  return (
    <Section title="Join tokens not used yet" flush>
      <div className={classes.inset}>
        <DataTable
          label="Join tokens"
          prefix="token-"
          columns={columns(setRemoving)}
          rows={open}
          rowKey={(token) => token.id}
        />
      </div>
      {removing && (
        <ConfirmAction
          opened
          onClose={() => setRemoving(undefined)}
          title={`Remove join token ${removing.id}`}
          label="Remove"
          danger
          previewKey={[removing.id]}
          read={() =>
            Promise.resolve((agents ?? []).filter((one) => one.join_token === removing.id).length)
          }
          describe={(joined) => (
            <p>
              Nobody joins with it any more: {counted(removing.uses - removing.used, "use")} left.{" "}
              {counted(joined, "agent")} that joined with it stay.
            </p>
          )}
          act={() => remove.mutateAsync(removing.id)}
          onDone={() => {
            notify({ text: `Join token ${removing.id} is gone.` });
            void client.invalidateQueries({ queryKey: joinTokensQuery.queryKey });
          }}
        />
      )}
    </Section>
  );
}

function columns(remove: (token: JoinTokenInfo) => void): Column<JoinTokenInfo>[] {
  return [
    { id: "id", title: "Token", cell: (token) => <Name>{token.id}</Name> },
    { id: "roles", title: "Roles", cell: (token) => token.roles.join(", ") },
    {
      id: "labels",
      title: "Labels",
      cell: (token) => <span className="mono">{labelWords(token.labels)}</span>,
    },
    {
      id: "used",
      title: "Used",
      numeric: true,
      cell: (token) => `${token.used} of ${token.uses}`,
    },
    {
      id: "expires",
      title: "Expires",
      numeric: true,
      sort: (token) => token.expires_at,
      cell: (token) => <Ago at={token.expires_at} />,
    },
    {
      id: "actions",
      title: "Actions",
      width: "84px",
      cell: (token) => (
        <RoleButton
          needs="operator"
          variant="default"
          size="compact-xs"
          aria-label={`Remove join token ${token.id}`}
          onClick={() => remove(token)}
        >
          Remove
        </RoleButton>
      ),
    },
  ];
}
