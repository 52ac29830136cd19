// Who is logged in, as what, and the way out.

import { Button } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { sessionQuery, useLogOut } from "../api/session";
import { useNotices } from "../components/notices";
import classes from "./session-box.module.css";

export function SessionBox() {
  const { data: session } = useQuery(sessionQuery);
  const { notify } = useNotices();
  const out = useMutation({
    mutationFn: useLogOut(),
    onError: (error) =>
      notify({ text: `You are still logged in. ${error.message}`, tone: "warning" }),
  });
  if (!session) return null;
  return (
    <div className={classes.box}>
      <div className={classes.who}>
        <span className={classes.label}>{session.label || session.author}</span>
        <span className={classes.role}>{session.role}</span>
      </div>
      <Button
        variant="default"
        size="compact-sm"
        loading={out.isPending}
        onClick={() => out.mutate()}
      >
        Log out
      </Button>
    </div>
  );
}
