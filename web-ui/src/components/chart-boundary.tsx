// A chart that cannot be loaded, as while the control plane is away, does not take the page
// with it.

import { Component, type ReactNode } from "react";

interface State {
  failed: boolean;
}

export class ChartBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { failed: false };

  static getDerivedStateFromError(): State {
    return { failed: true };
  }

  override render() {
    if (!this.state.failed) return this.props.children;
    return <p className="dim">The chart could not be loaded. Load the page again.</p>;
  }
}
