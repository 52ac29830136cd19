// What happened, said once: in a corner, and to screen readers. What has to be acted on
// stands in the page, not here.

import { createContext, type ReactNode, useCallback, useContext, useMemo, useState } from "react";
import { Icon } from "./icons";
import classes from "./notices.module.css";
import { StateMark } from "./state-mark";

export interface Notice {
  text: ReactNode;
  tone?: "done" | "warning";
  /** For screen readers alone: what is seen anyway. */
  quiet?: boolean;
}

interface Notices {
  notify: (notice: Notice) => void;
}

const SHOWN_MS = 8_000;
const SHOWN_AT_ONCE = 4;

const NoticesContext = createContext<Notices>({ notify: () => {} });

export function useNotices(): Notices {
  return useContext(NoticesContext);
}

let nextId = 0;

export function NoticeProvider({ children }: { children: ReactNode }) {
  const [shown, setShown] = useState<(Notice & { id: number })[]>([]);
  const drop = useCallback(
    (id: number) => setShown((before) => before.filter((notice) => notice.id !== id)),
    [],
  );
  const notify = useCallback(
    (notice: Notice) => {
      nextId += 1;
      const id = nextId;
      setShown((before) => [...before, { ...notice, id }].slice(-SHOWN_AT_ONCE));
      setTimeout(() => drop(id), SHOWN_MS);
    },
    [drop],
  );
  const value = useMemo(() => ({ notify }), [notify]);
  return (
    <NoticesContext value={value}>
      {children}
      <div className={classes.notices} role="status" aria-live="polite">
        {shown.map(({ id, text, tone, quiet }) => (
          <div key={id} className={quiet ? "hidden" : classes.notice}>
            {!quiet && (
              <StateMark state={tone === "warning" ? "warning" : "up"} title={tone ?? "done"} />
            )}
            <div className={classes.text}>{text}</div>
            {!quiet && (
              <button
                type="button"
                className={classes.close}
                aria-label="Close this notice"
                onClick={() => drop(id)}
              >
                <Icon name="close" size={14} />
              </button>
            )}
          </div>
        ))}
      </div>
    </NoticesContext>
  );
}
