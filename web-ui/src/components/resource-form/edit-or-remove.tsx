// The two buttons of a resource's own page, and the dialogs they open.

import { type ReactNode, useState } from "react";
import { useNavigate } from "react-router";
import type { Writing } from "../../api/client";
import type { Commit } from "../../api/types";
import { ConfirmAction } from "../confirm-action";
import { useNotices } from "../notices";
import { RoleButton } from "../role-button";
import type { Field } from "./fields";
import { appliedWords, Preview, ResourceForm } from "./resource-form";

interface Props<Resource extends { name: string }> {
  resource: Resource;
  fields: Field[];
  etag: string | undefined;
  put: (resource: Resource, how: Writing) => Promise<Commit>;
  remove: (name: string, how: Writing) => Promise<Commit>;
  /** What removing it does to those who use it. */
  consequence: ReactNode;
  /** The list, where one is led once it is gone. */
  list: string;
  onReadAgain: () => void;
}

export function EditOrRemove<Resource extends { name: string }>(props: Props<Resource>) {
  const { resource, fields, etag, put, remove, consequence, list, onReadAgain } = props;
  const [open, setOpen] = useState<"edit" | "remove">();
  const { notify } = useNotices();
  const navigate = useNavigate();
  const close = () => setOpen(undefined);
  return (
    <>
      <RoleButton needs="operator" variant="default" onClick={() => setOpen("edit")}>
        Edit
      </RoleButton>
      <RoleButton needs="operator" variant="default" onClick={() => setOpen("remove")}>
        Remove
      </RoleButton>
      <ResourceForm<Resource>
        opened={open === "edit"}
        onClose={close}
        title={`Edit ${resource.name}`}
        fields={fields}
        initial={resource}
        etag={etag}
        put={put}
        onReadAgain={() => {
          close();
          onReadAgain();
        }}
        onDone={(commit) => notify({ text: appliedWords(commit) })}
      />
      <ConfirmAction
        opened={open === "remove"}
        onClose={close}
        title={`Remove ${resource.name}`}
        label="Remove"
        danger
        previewKey={[resource.name, etag]}
        read={() => remove(resource.name, { dryRun: true, etag })}
        describe={(commit) => (
          <>
            <p>{consequence}</p>
            <Preview commit={commit} />
          </>
        )}
        act={() => remove(resource.name, { etag, wait: true })}
        onDone={(commit) => {
          notify({ text: appliedWords(commit) });
          void navigate(list);
        }}
      />
    </>
  );
}
