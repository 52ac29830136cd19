// The few icons there are, 16 px, drawn with one stroke. They are decoration: what they
// stand on has a name.

const PATHS = {
  overview: "M2 8h3M11 8h3M5 5.5h6v5H5zM8 2v3.5M8 10.5V14",
  listeners: "M2 8h5M2 4.5h3M2 11.5h3M9.5 3.5a6.5 6.5 0 0 1 0 9M12 1.8a9.5 9.5 0 0 1 0 12.4",
  pools:
    "M2.5 4.5c1.8-1.6 3.7-1.6 5.5 0s3.7 1.6 5.5 0M2.5 8c1.8-1.6 3.7-1.6 5.5 0s3.7 1.6 5.5 0M2.5 11.5c1.8-1.6 3.7-1.6 5.5 0s3.7 1.6 5.5 0",
  agents: "M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01",
  certificates: "M3 2h10v8H3zM5.5 4.5h5M5.5 7h2M9 8.5v5.5l1.5-1.2L12 14V8.5",
  clients: "M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 14c.3-2.8 2.2-4.5 5-4.5s4.7 1.7 5 4.5",
  changes: "M8 4.5V8l2.5 1.5M2.6 6.2A5.8 5.8 0 1 1 2.2 8M2.2 3v3.3h3.3",
  document: "M4 1.8h5.5L12.5 5v9.2H4zM9.3 2v3.2h3M6 8h4.5M6 10.8h4.5",
  copy: "M5.5 5.5V2.5h8v8h-3M2.5 5.5h8v8h-8z",
  check: "M3 8.5 6.5 12 13 4.5",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.2v9.6L12.5 8Z",
  light:
    "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M12.6 3.4l-.9.9M4.3 11.7l-.9.9",
  dark: "M13 9.8A5.7 5.7 0 0 1 6.2 3a5.7 5.7 0 1 0 6.8 6.8z",
  auto: "M8 2.2a5.8 5.8 0 1 0 0 11.6V2.2zM8 2.2a5.8 5.8 0 0 1 0 11.6",
  menu: "M2.5 4.5h11M2.5 8h11M2.5 11.5h11",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  user: "M8 7.5a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM3 14c.3-2.8 2.2-4.5 5-4.5s4.7 1.7 5 4.5",
  search: "M7 11.5a4.5 4.5 0 1 0 0-9 4.5 4.5 0 0 0 0 9zM10.5 10.5 14 14",
  up: "M4 10l4-4 4 4",
  down: "M4 6l4 4 4-4",
  right: "M6 4l4 4-4 4",
  plus: "M8 3v10M3 8h10",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg
      viewBox="0 0 16 16"
      width={size}
      height={size}
      fill="none"
      stroke="currentColor"
      strokeWidth="1.4"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}
