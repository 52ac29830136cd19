// The way to a client that is in no list.

import { Button, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useNavigate } from "react-router";
import { parseNetwork } from "../../format/networks";
import classes from "./look-up.module.css";
import { clientPath } from "./measures";

export function LookUp() {
  const go = useNavigate();
  const [address, setAddress] = useState("");
  const [wrong, setWrong] = useState(false);
  const send = (event: FormEvent) => {
    event.preventDefault();
    const wanted = address.trim();
    if (parseNetwork(wanted)) void go(clientPath(wanted));
    else setWrong(true);
  };
  return (
    <form onSubmit={send} className={classes.form}>
      <TextInput
        aria-label="Address of a client"
        placeholder="Address of a client"
        size="xs"
        value={address}
        onChange={(event) => {
          setAddress(event.currentTarget.value);
          setWrong(false);
        }}
        error={wrong && "This is no IPv4 or IPv6 address."}
      />
      <Button type="submit" variant="default">
        Look up
      </Button>
    </form>
  );
}
