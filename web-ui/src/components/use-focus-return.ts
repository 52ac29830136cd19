// Gives the focus back to what opened a dialog, also where the dialog is made when it opens;
// the library's own way misses those. Where that is gone, the page itself gets it.

import { useLayoutEffect } from "react";

export function useFocusReturn(opened: boolean): void {
  useLayoutEffect(() => {
    if (!opened) return;
    // The dialog takes the focus a moment later.
    const opener = document.activeElement;
    return () => {
      requestAnimationFrame(() => {
        const back = opener?.isConnected ? opener : document.querySelector("main");
        if (back instanceof HTMLElement) back.focus();
      });
    };
  }, [opened]);
}
