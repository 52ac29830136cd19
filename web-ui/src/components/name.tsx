// A name, address or hash as the API writes it: mono, whole, and to be copied.

import { useRef, useState } from "react";
import { Link } from "react-router";
import { Icon } from "./icons";
import classes from "./name.module.css";
import { useNotices } from "./notices";

interface Props {
  children: string;
  /** Where it leads. */
  to?: string;
  /** What is shown when the whole is too long; the whole is copied. */
  short?: string;
  copy?: boolean;
}

export function Name({ children, to, short, copy = false }: Props) {
  const text = short ?? children;
  return (
    <span className={classes.name} {...(short !== undefined && { title: children })}>
      {to === undefined ? <span>{text}</span> : <Link to={to}>{text}</Link>}
      {copy && <CopyButton text={children} what={text} />}
    </span>
  );
}

const SHOWN_MS = 1_500;

/** Copies `text`; `what` names it: "Copy edge". */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const [copied, setCopied] = useState(false);
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  const { notify } = useNotices();
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => setCopied(false), SHOWN_MS);
      notify({ text: `Copied ${what}.`, quiet: true });
    } catch {
      notify({
        text: "The browser does not allow copying. Select the text instead.",
        tone: "warning",
      });
    }
  };
  return (
    <button type="button" className={classes.copy} onClick={copy} aria-label={`Copy ${what}`}>
      <Icon name={copied ? "check" : "copy"} size={14} />
    </button>
  );
}
