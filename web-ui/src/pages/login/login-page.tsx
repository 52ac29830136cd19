// The API token is shown once to the control plane, which answers with a cookie that no
// script can read; the page forgets the token.

import { Button, PasswordInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { Navigate, useSearchParams } from "react-router";
import { isProblem } from "../../api/problem";
import { logIn, sessionKey, sessionQuery } from "../../api/session";
import { ProblemAlert } from "../../components/problem-alert";
import { Brand } from "../../shell/brand";
import classes from "./login-page.module.css";
import { safeNext } from "./next";

export default function LoginPage() {
  const [search] = useSearchParams();
  const client = useQueryClient();
  const session = useQuery(sessionQuery);
  const [token, setToken] = useState("");
  const login = useMutation({
    mutationFn: (entered: string) => logIn(entered),
    onSuccess: (started) => {
      setToken("");
      client.setQueryData(sessionKey, started);
    },
  });
  if (session.data) return <Navigate to={safeNext(search.get("next"))} replace />;

  const send = (event: FormEvent) => {
    event.preventDefault();
    login.mutate(token.trim());
  };
  const unknown = isProblem(login.error, 401);
  return (
    <main className={classes.page}>
      <title>Log in · Tidegate</title>
      <form className={classes.form} onSubmit={send}>
        <Brand />
        <h1>Log in</h1>
        {login.error && !unknown ? <ProblemAlert error={login.error} focus /> : null}
        <PasswordInput
          label="API token"
          name="token"
          size="md"
          autoComplete="current-password"
          data-autofocus
          required
          withAsterisk={false}
          value={token}
          onChange={(event) => setToken(event.currentTarget.value)}
          error={unknown && "No such token, or it has expired. Check that it was pasted whole."}
          visibilityToggleButtonProps={{ "aria-label": "Show the token" }}
        />
        <Button type="submit" size="sm" loading={login.isPending}>
          Log in
        </Button>
        <p className={classes.where}>
          The first token lies in <code>admin.token</code> of the control plane's state directory.
          Others are made with <code>tidegate api-token create</code>.
        </p>
      </form>
    </main>
  );
}
