// Mantine in Tidegate's colours. What is no Mantine component takes its colours from the
// variables of global.css.

import {
  type CSSVariablesResolver,
  createTheme,
  defaultVariantColorsResolver,
  localStorageColorSchemeManager,
  type MantineColorsTuple,
} from "@mantine/core";

const tide: MantineColorsTuple = [
  "#e4f6f4",
  "#c6eae6",
  "#97d9d2",
  "#62c5bb",
  "#36b1a6",
  "#1c9c92",
  "#0f877f",
  "#0a746d",
  "#075d57",
  "#044742",
];

const dark: MantineColorsTuple = [
  "#dbe7ee",
  "#b9cad5",
  "#8fa5b3",
  "#71889a",
  "#4c6478",
  "#1c3042",
  "#112130",
  "#0b1823",
  "#070f17",
  "#040a10",
];

/** Of what cannot be undone, or ends connections. */
const down: MantineColorsTuple = [
  "#fdeeec",
  "#f9d5d1",
  "#f3aaa3",
  "#ec7d74",
  "#ff6f63",
  "#dc4439",
  "#cf3429",
  "#b8241a",
  "#971a12",
  "#78120b",
];

export const theme = createTheme({
  primaryColor: "tide",
  primaryShade: { light: 7, dark: 4 },
  // The library decides once, by the light shade, what is read on a filled control.
  variantColorResolver: (input) => ({
    ...defaultVariantColorsResolver(input),
    ...(input.variant === "filled" && { color: "var(--on-filled)" }),
  }),
  colors: { tide, dark, down },
  fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
  fontFamilyMonospace: "ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace",
  fontSizes: { xs: "12px", sm: "13px", md: "14px", lg: "16px", xl: "20px" },
  spacing: { xs: "4px", sm: "8px", md: "12px", lg: "16px", xl: "24px" },
  radius: { xs: "2px", sm: "4px", md: "6px", lg: "8px", xl: "12px" },
  defaultRadius: "md",
  headings: { fontWeight: "600" },
  cursorType: "pointer",
  respectReducedMotion: true,
  components: {
    Button: { defaultProps: { size: "xs" } },
    InputWrapper: {
      styles: {
        label: { fontSize: 13, fontWeight: 500 },
        description: { marginBottom: 6 },
      },
    },
    TextInput: { defaultProps: { size: "sm" } },
    Modal: {
      defaultProps: {
        centered: true,
        overlayProps: { backgroundOpacity: 0.5 },
      },
      styles: { content: { border: "1px solid var(--line)", boxShadow: "none" } },
    },
  },
});

export const cssVariables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--on-filled": "#ffffff",
    "--mantine-color-body": "#ffffff",
    "--mantine-color-text": "#10222c",
    "--mantine-color-dimmed": "#506570",
    "--mantine-color-default-border": "#8a9ea9",
    "--mantine-color-placeholder": "#6b7f8a",
    "--mantine-color-error": "#b8241a",
    "--mantine-color-anchor": "#0a6b65",
  },
  dark: {
    "--on-filled": "#061017",
    "--mantine-color-body": "#0b1823",
    "--mantine-color-text": "#dbe7ee",
    "--mantine-color-dimmed": "#8fa5b3",
    "--mantine-color-default": "#112130",
    "--mantine-color-default-hover": "#182b3c",
    "--mantine-color-default-border": "#567086",
    "--mantine-color-placeholder": "#8499a8",
    "--mantine-color-error": "#ff8076",
    "--mantine-color-anchor": "#4cc4b9",
  },
});

/** The key is the one of public/theme.js. */
export const colorSchemes = localStorageColorSchemeManager({ key: "tidegate-color-scheme" });
