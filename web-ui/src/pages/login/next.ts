/**
 * Where to go after the login: a path of this page, never another site, which `//host` and
 * `/\host` would be.
 */
export function safeNext(next: string | null): string {
  if (next === null || !/^\/(?![/\\])/.test(next) || next.startsWith("/login")) return "/";
  return next;
}
