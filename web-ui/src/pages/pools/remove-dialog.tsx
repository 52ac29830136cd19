// Takes a backend out of its pool.

import { useQueryClient } from "@tanstack/react-query";
import { deleteBackend, listedBackendQuery } from "../../api/queries/backends";
import type { Backend, Commit } from "../../api/types";
import { ConfirmAction } from "../../components/confirm-action";
import { useNotices } from "../../components/notices";
import { appliedWords, Preview } from "../../components/resource-form/resource-form";
import { counted } from "../../format/numbers";
import { leftWithNobody, live } from "./seen";

interface Props {
  pool: string;
  name: string;
  backends: Backend[];
  onClose: () => void;
}

interface Shown {
  commit: Commit;
  etag: string | undefined;
}

export function RemoveDialog({ pool, name, backends, onClose }: Props) {
  const { notify } = useNotices();
  const client = useQueryClient();
  const backend = backends.find((one) => one.name === name);
  const nobody = leftWithNobody(backends, new Set([name]));
  return (
    <ConfirmAction<Shown, Commit>
      opened
      onClose={onClose}
      title={`Remove ${name}`}
      label="Remove"
      danger
      previewKey={[pool, name]}
      read={async () => {
        const { etag } = await client.fetchQuery({
          ...listedBackendQuery(pool, name),
          staleTime: 0,
        });
        return { commit: await deleteBackend(pool, name, { dryRun: true, etag }), etag };
      }}
      describe={({ commit }) => (
        <>
          <p>
            {counted(backend ? live(backend) : 0, "live connection")} of it go on until they end;
            new ones go to the others.
          </p>
          {nobody > 0 && <p>Nobody is left to serve on {counted(nobody, "agent")}.</p>}
          <Preview commit={commit} />
        </>
      )}
      act={({ etag }) => deleteBackend(pool, name, { etag, wait: true })}
      onDone={(commit) => notify({ text: appliedWords(commit) })}
    />
  );
}
