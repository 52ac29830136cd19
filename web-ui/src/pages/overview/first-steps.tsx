// A fresh control plane: what to do, one after the other, and what is done already.

import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Status } from "../../api/types";
import { Icon } from "../../components/icons";
import { Section } from "../../components/section";
import classes from "./first-steps.module.css";

interface Step {
  title: string;
  words: ReactNode;
  to: string;
  link: string;
  done: boolean;
}

export function FirstSteps({ status, hasListeners }: { status: Status; hasListeners: boolean }) {
  const steps: Step[] = [
    {
      title: "Add an instance",
      words:
        "An agent runs on each machine: as balancer in front, as terminator beside the app. One line starts it there, with a join token.",
      to: "/agents?add=yes",
      link: "Add an instance",
      done: status.agents.total > 0,
    },
    {
      title: "Upload a certificate",
      words: "Terminators speak TLS with it. Its private key is sealed here and shown to nobody.",
      to: "/certificates?add=yes",
      link: "Upload a certificate",
      done: status.certificates.length > 0,
    },
    {
      title: "Write the document",
      words: (
        <>
          Listeners, pools and policies: what every agent runs. Begin with a balancer's listener on{" "}
          <code>:443</code>, a terminator's behind it, and the pool of your app's processes.
        </>
      ),
      to: "/document",
      link: "Write the document",
      done: hasListeners,
    },
  ];
  const next = steps.find(({ done }) => !done);
  return (
    <Section title="First steps" flush>
      <ol className={classes.steps}>
        {steps.map((step, index) => (
          <li key={step.title} className={classes.step} data-done={step.done}>
            <span className={classes.number} aria-hidden="true">
              {step.done ? <Icon name="check" size={14} /> : index + 1}
            </span>
            <div>
              <h3>
                {step.title}
                {step.done && <span className={classes.done}> · done</span>}
              </h3>
              <p className={classes.words}>{step.words}</p>
              {!step.done && (
                <p>
                  <Link to={step.to} className={step === next ? classes.next : undefined}>
                    {step.link}
                  </Link>
                </p>
              )}
            </div>
          </li>
        ))}
      </ol>
    </Section>
  );
}
