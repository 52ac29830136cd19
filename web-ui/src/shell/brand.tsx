import classes from "./brand.module.css";

export function Brand() {
  return (
    <span className={classes.brand}>
      <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
        <path
          d="M4 5v22M28 5v22M4 12c4-4 8-4 12 0s8 4 12 0M4 21c4-4 8-4 12 0s8 4 12 0"
          fill="none"
          stroke="currentColor"
          strokeWidth="3"
          strokeLinecap="round"
        />
      </svg>
      <span className={classes.word}>Tidegate</span>
    </span>
  );
}
