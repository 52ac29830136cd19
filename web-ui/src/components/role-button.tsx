// A button for what takes a role: who may not is told why, and can still find it.

import { Button, type ButtonProps, Tooltip } from "@mantine/core";
import { type ComponentPropsWithRef, useId } from "react";
import { useForbidden } from "../api/session";
import type { ApiRole } from "../api/types";

type Props = ButtonProps &
  Omit<ComponentPropsWithRef<"button">, keyof ButtonProps> & { needs: ApiRole };

export function RoleButton({ needs, onClick, ...rest }: Props) {
  const reason = useForbidden(needs);
  const id = useId();
  if (reason === undefined) return <Button {...rest} {...(onClick !== undefined && { onClick })} />;
  return (
    <>
      <Tooltip
        label={reason}
        multiline
        maw={280}
        events={{ hover: true, focus: true, touch: true }}
      >
        {/* Not `disabled`: that could neither be focused nor say why. */}
        <Button {...rest} data-disabled aria-disabled aria-describedby={id} type="button" />
      </Tooltip>
      <span id={id} className="hidden">
        {reason}
      </span>
    </>
  );
}
