import { cleanup } from "@testing-library/react";
import { afterEach } from "vitest";

afterEach(cleanup);

// happy-dom has no fonts, whose loading a text area that grows waits for.
Object.defineProperty(document, "fonts", { value: new EventTarget(), configurable: true });
