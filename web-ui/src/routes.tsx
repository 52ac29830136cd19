// Every page behind the login: its path, and the chunk that is loaded for it.

import { type ComponentType, lazy } from "react";

interface PageRoute {
  path: string;
  page: ComponentType;
}

export const routes: PageRoute[] = [
  { path: "/", page: lazy(() => import("./pages/overview/overview-page")) },
  { path: "/listeners", page: lazy(() => import("./pages/listeners/listeners-page")) },
  { path: "/listeners/:name", page: lazy(() => import("./pages/listeners/listener-page")) },
  { path: "/pools", page: lazy(() => import("./pages/pools/pools-page")) },
  { path: "/pools/:name", page: lazy(() => import("./pages/pools/pool-page")) },
  { path: "/agents", page: lazy(() => import("./pages/agents/agents-page")) },
  { path: "/agents/:id", page: lazy(() => import("./pages/agents/agent-page")) },
  { path: "/certificates", page: lazy(() => import("./pages/certificates/certificates-page")) },
  {
    path: "/certificates/:name",
    page: lazy(() => import("./pages/certificates/certificate-page")),
  },
  { path: "/clients", page: lazy(() => import("./pages/clients/clients-page")) },
  { path: "/clients/:ip", page: lazy(() => import("./pages/clients/client-page")) },
  { path: "/changes", page: lazy(() => import("./pages/changes/changes-page")) },
  { path: "/changes/:number", page: lazy(() => import("./pages/changes/change-page")) },
  { path: "/document", page: lazy(() => import("./pages/document/document-page")) },
];
