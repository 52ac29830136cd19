// What stands around every page: navigation at the side, which a small screen unfolds from
// the top, and the bar that says how live the page is.

import { type RefObject, Suspense, useEffect, useEffectEvent, useRef, useState } from "react";
import { Link, Route, Routes, useLocation } from "react-router";
import { LiveProvider } from "../api/events";
import { Icon } from "../components/icons";
import { routes } from "../routes";
import { Brand } from "./brand";
import { LiveBadge } from "./live-badge";
import { Navigation } from "./navigation";
import { NotFound } from "./not-found";
import { PageBoundary } from "./page-boundary";
import { SchemeSwitch } from "./scheme-switch";
import { SessionBox } from "./session-box";
import classes from "./shell.module.css";

export function Shell() {
  const [open, setOpen] = useState(false);
  const burger = useRef<HTMLButtonElement>(null);
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  usePageChange(pathname, main);
  useDismissal(open, () => setOpen(false), burger);

  return (
    <LiveProvider>
      <a className={classes.skip} href="#main">
        Skip to the page
      </a>
      <div className={classes.shell}>
        <header className={classes.bar}>
          <button
            ref={burger}
            type="button"
            className={classes.burger}
            aria-label={open ? "Close navigation" : "Open navigation"}
            aria-expanded={open}
            aria-controls="side"
            onClick={() => setOpen(!open)}
          >
            <Icon name={open ? "close" : "menu"} size={18} />
          </button>
          <Link to="/" className={classes.home} aria-label="Tidegate, overview">
            <Brand />
          </Link>
          <LiveBadge />
        </header>
        <div id="side" className={classes.side} data-open={open}>
          <nav aria-label="Areas">
            <Navigation onGo={() => setOpen(false)} />
          </nav>
          <div className={classes.foot}>
            <SchemeSwitch />
            <SessionBox />
          </div>
        </div>
        <main id="main" ref={main} className={classes.main} tabIndex={-1}>
          <PageBoundary key={pathname}>
            <Suspense fallback={null}>
              <Routes>
                {routes.map(({ path, page: Page }) => (
                  <Route key={path} path={path} element={<Page />} />
                ))}
                <Route path="*" element={<NotFound />} />
              </Routes>
            </Suspense>
          </PageBoundary>
        </main>
      </div>
    </LiveProvider>
  );
}

/**
 * On a small screen the navigation covers the page: Esc closes it, and so does a focus that
 * goes on, which must not wander about below it.
 */
function useDismissal(open: boolean, close: () => void, burger: RefObject<HTMLElement | null>) {
  const onClose = useEffectEvent(close);
  useEffect(() => {
    if (!open) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      onClose();
      burger.current?.focus();
    };
    const onFocus = ({ target }: FocusEvent) => {
      if (target instanceof Element && target.closest("main")) onClose();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("focusin", onFocus);
    return () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("focusin", onFocus);
    };
  }, [open, burger]);
}

/** A new page begins at its top, and screen readers begin there, too. */
function usePageChange(pathname: string, main: RefObject<HTMLElement | null>) {
  const before = useRef(pathname);
  useEffect(() => {
    if (before.current === pathname) return;
    before.current = pathname;
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [pathname, main]);
}
