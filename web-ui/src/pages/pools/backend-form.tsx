// Adds a backend to a pool, or edits one that is listed.

import { useQuery } from "@tanstack/react-query";
import { listedBackendQuery, putBackend } from "../../api/queries/backends";
import type { ListedBackend } from "../../api/types";
import { useNotices } from "../../components/notices";
import { appliedWords, ResourceForm } from "../../components/resource-form/resource-form";
import { backendFields } from "./pool-fields";

interface Props {
  pool: string;
  /** The one that is edited. */
  name?: string;
  opened: boolean;
  onClose: () => void;
}

export function BackendForm({ pool, name, opened, onClose }: Props) {
  const { notify } = useNotices();
  const listed = useQuery({
    ...listedBackendQuery(pool, name ?? ""),
    enabled: opened && name !== undefined,
    staleTime: 0,
  });
  if (name !== undefined && !listed.data) return null;
  return (
    <ResourceForm<ListedBackend>
      opened={opened}
      onClose={onClose}
      title={name === undefined ? `Add a backend to ${pool}` : `Edit ${name}`}
      fields={backendFields}
      initial={listed.data?.value ?? { address: "" }}
      etag={listed.data?.etag}
      put={(backend, how) => putBackend(pool, name ?? nameOf(backend), backend, how)}
      onReadAgain={() => {
        onClose();
        void listed.refetch();
      }}
      onDone={(commit) => notify({ text: appliedWords(commit) })}
    />
  );
}

/** Its name, or its address: what the API calls it. One without either is refused there. */
function nameOf(backend: ListedBackend): string {
  return backend.name || backend.address || "new";
}
