// The text of the document: CodeMirror, with what the page needs of it and no more. Its own
// chunk.

import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import {
  bracketMatching,
  HighlightStyle,
  indentUnit,
  syntaxHighlighting,
} from "@codemirror/language";
import { highlightSelectionMatches, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState, StateEffect, StateField } from "@codemirror/state";
import {
  Decoration,
  type DecorationSet,
  drawSelection,
  EditorView,
  keymap,
  lineNumbers,
} from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useEffect, useRef } from "react";
import { styleNonce } from "../../style-nonce";
import classes from "./document.module.css";

export interface EditorProps {
  value: string;
  onChange: (value: string) => void;
  readOnly: boolean;
  /** Lines that are wrong, from 1. */
  lines: number[];
  /** A line to go to; another object goes there again. */
  goTo: { line: number } | undefined;
}

const setWrong = StateEffect.define<number[]>();

/** Lines that are wrong stand out until the text there is another one. */
const wrongLines = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update: (marks, transaction) => {
    let next = marks.map(transaction.changes);
    for (const effect of transaction.effects)
      if (effect.is(setWrong)) {
        const { doc } = transaction.state;
        const lines = [...new Set(effect.value)].filter((line) => line >= 1 && line <= doc.lines);
        next = Decoration.set(
          lines
            .toSorted((a, b) => a - b)
            .map((line) =>
              Decoration.line({ class: classes.wrong ?? "" }).range(doc.line(line).from),
            ),
        );
      }
    return next;
  },
  provide: (field) => EditorView.decorations.from(field),
});

const colours = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--tide-text)" },
  { tag: [tags.string, tags.content], color: "var(--text)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--drain)" },
  { tag: tags.comment, color: "var(--dim)", fontStyle: "italic" },
  { tag: [tags.punctuation, tags.separator], color: "var(--dim)" },
]);

const look = EditorView.theme({
  "&": { backgroundColor: "var(--paper)", color: "var(--text)", fontSize: "13px" },
  "&.cm-focused": { outline: "2px solid var(--focus)", outlineOffset: "-2px" },
  ".cm-content": { fontFamily: "var(--mono)", caretColor: "var(--text)" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-gutters": {
    backgroundColor: "var(--raised)",
    color: "var(--dim)",
    borderRight: "1px solid var(--line)",
  },
  ".cm-selectionBackground, &.cm-focused .cm-selectionBackground": {
    backgroundColor: "var(--tide-wash) !important",
  },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
});

export default function Editor({ value, onChange, readOnly, lines, goTo }: EditorProps) {
  const box = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const changed = useRef(onChange);
  changed.current = onChange;
  const initial = useRef(value);
  const writable = useRef(new Compartment());

  useEffect(() => {
    if (!box.current) return;
    const made = new EditorView({
      parent: box.current,
      state: EditorState.create({
        doc: initial.current,
        extensions: [
          EditorView.cspNonce.of(styleNonce()),
          lineNumbers(),
          history(),
          drawSelection(),
          bracketMatching(),
          highlightSelectionMatches(),
          indentUnit.of("  "),
          yaml(),
          syntaxHighlighting(colours),
          look,
          wrongLines,
          writable.current.of(EditorState.readOnly.of(false)),
          // Tab moves on, as everywhere: nobody is trapped in here.
          keymap.of([...defaultKeymap, ...historyKeymap, ...searchKeymap]),
          EditorView.contentAttributes.of({
            "aria-label": "The document, as YAML",
            tabindex: "0",
          }),
          EditorView.lineWrapping,
          // The browser keeps the style of what is typed over in an attribute, which the
          // policy forbids: the editor replaces it itself.
          EditorView.domEventHandlers({
            beforeinput: (event, editor) => {
              const typed = event.inputType === "insertText" ? event.data : null;
              if (typed === null || editor.state.selection.main.empty || editor.state.readOnly)
                return false;
              event.preventDefault();
              editor.dispatch(editor.state.replaceSelection(typed), { userEvent: "input.type" });
              return true;
            },
          }),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed.current(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    return () => made.destroy();
  }, []);

  useEffect(() => {
    view.current?.dispatch({
      effects: writable.current.reconfigure(EditorState.readOnly.of(readOnly)),
    });
  }, [readOnly]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || editor.state.doc.toString() === value) return;
    editor.dispatch({ changes: { from: 0, to: editor.state.doc.length, insert: value } });
  }, [value]);

  useEffect(() => {
    view.current?.dispatch({ effects: setWrong.of(lines) });
  }, [lines]);

  useEffect(() => {
    const editor = view.current;
    if (!editor || !goTo) return;
    const line = editor.state.doc.line(Math.min(Math.max(1, goTo.line), editor.state.doc.lines));
    editor.dispatch({
      selection: { anchor: line.from },
      effects: EditorView.scrollIntoView(line.from, { y: "center" }),
    });
    editor.focus();
  }, [goTo]);

  return <div ref={box} className={classes.editor} />;
}
