// The areas, in the order in which traffic and then people meet them.

import { NavLink } from "react-router";
import { Icon, type IconName } from "../components/icons";
import classes from "./navigation.module.css";

interface Area {
  to: string;
  title: string;
  icon: IconName;
}

const AREAS: Area[] = [
  { to: "/", title: "Overview", icon: "overview" },
  { to: "/listeners", title: "Listeners", icon: "listeners" },
  { to: "/pools", title: "Pools", icon: "pools" },
  { to: "/agents", title: "Agents", icon: "agents" },
  { to: "/certificates", title: "Certificates", icon: "certificates" },
  { to: "/clients", title: "Clients", icon: "clients" },
  { to: "/changes", title: "Changes", icon: "changes" },
  { to: "/document", title: "Document", icon: "document" },
];

export function Navigation({ onGo }: { onGo?: () => void }) {
  return (
    <ul className={classes.areas}>
      {AREAS.map(({ to, title, icon }) => (
        <li key={to}>
          <NavLink to={to} end={to === "/"} className={classes.area ?? ""} onClick={() => onGo?.()}>
            <Icon name={icon} />
            {title}
          </NavLink>
        </li>
      ))}
    </ul>
  );
}
