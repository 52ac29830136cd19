// A listener's settings as facts, with what holds where nothing is written.

import type { ReactNode } from "react";
import { Link } from "react-router";
import type { Listener } from "../../api/types";
import { Name } from "../../components/name";

export function listenerFacts(listener: Listener): [string, ReactNode][] {
  const facts: [string, ReactNode][] = [
    ["Address", <Name key="bind">{listener.bind}</Name>],
    ["Agents", selector(listener.agents)],
    ["PROXY header", accepts(listener)],
    ["Policy", listener.policy ?? "everybody"],
  ];
  if (listener.tls)
    facts.push(
      [
        "Certificates",
        <span key="certificates">
          {listener.tls.certificates.map((name, index) => (
            <span key={name}>
              {index > 0 && ", "}
              <Link to={`/certificates/${encodeURIComponent(name)}`}>{name}</Link>
            </span>
          ))}
        </span>,
      ],
      ["TLS versions", listener.tls.versions?.join(", ") ?? "tls1.3, tls1.2"],
      ["Mode", listener.mode ?? "http"],
      ["Client's address", listener.client_ip ?? "forwarded"],
    );
  if (listener.routes && listener.routes.length > 0)
    facts.push([
      "Routes",
      <span key="routes">
        {listener.routes.map(({ sni, pool }) => (
          <span key={sni.join()} style={{ display: "block" }}>
            <span className="mono">{sni.join(", ")}</span> →{" "}
            <Link to={`/pools/${encodeURIComponent(pool)}`}>{pool}</Link>
          </span>
        ))}
      </span>,
    ]);
  if (listener.redirect) facts.push(["Redirects", `to https, ${listener.redirect.status ?? 308}`]);
  return facts;
}

function selector(labels: Listener["agents"]): string {
  const written = Object.entries(labels ?? {}).map(([key, value]) => `${key}=${value}`);
  return written.length === 0 ? "all of the role" : written.join(", ");
}

function accepts({ accept_proxy, role }: Listener): string {
  if (accept_proxy === undefined) return role === "terminator" ? "from balancers" : "none";
  return Array.isArray(accept_proxy) ? `from ${accept_proxy.join(", ")}` : accept_proxy;
}
