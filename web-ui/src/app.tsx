// The composition root: providers, and the two halves of the routes, before and after a
// login.

import { MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { BrowserRouter, Route, Routes } from "react-router";
import { makeQueryClient } from "./api/query-client";
import { NoticeProvider } from "./components/notices";
import { SessionGate } from "./shell/session-gate";
import { Shell } from "./shell/shell";
import { styleNonce } from "./style-nonce";
import { colorSchemes, cssVariables, theme } from "./theme";

const LoginPage = lazy(() => import("./pages/login/login-page"));

export function App() {
  const [client] = useState(makeQueryClient);
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={cssVariables}
      colorSchemeManager={colorSchemes}
      defaultColorScheme="auto"
      getStyleNonce={styleNonce}
    >
      <QueryClientProvider client={client}>
        <NoticeProvider>
          <BrowserRouter>
            <Suspense fallback={null}>
              <Routes>
                <Route path="/login" element={<LoginPage />} />
                <Route
                  path="*"
                  element={
                    <SessionGate>
                      <Shell />
                    </SessionGate>
                  }
                />
              </Routes>
            </Suspense>
          </BrowserRouter>
        </NoticeProvider>
      </QueryClientProvider>
    </MantineProvider>
  );
}
