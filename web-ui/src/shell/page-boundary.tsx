// A page that fails does not take the shell with it.

import { Component, type ReactNode } from "react";
import { PageHeader } from "../components/page-header";
import { ProblemAlert } from "../components/problem-alert";

interface State {
  error: unknown;
}

export class PageBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { error: undefined };

  static getDerivedStateFromError(error: unknown): State {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <>
        <PageHeader title="This page failed" />
        {/* A chunk that is gone after an upgrade comes with a reload, too. */}
        <ProblemAlert error={this.state.error} onRetry={() => window.location.reload()} />
      </>
    );
  }
}
