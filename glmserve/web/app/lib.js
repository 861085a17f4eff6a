// The libraries that all components use, and the link between signals and components.
import { useEffect, useLayoutEffect, useReducer } from "../vendor/preact/preact.js";

export {
  html, render, useEffect, useLayoutEffect, useMemo, useRef, useState,
} from "../vendor/preact/preact.js";
export { computed, effect, signal } from "../vendor/signals/signals.js";

/** The signal's value; the component is drawn again whenever it changes. */
export function useSignal(source) {
  const [, draw] = useReducer((count) => count + 1, 0);
  useLayoutEffect(() => {
    let isFirst = true;
    return source.subscribe(() => {
      if (!isFirst) draw();
      isFirst = false;
    });
  }, [source]);
  return source.value;
}

/** Calls `handle` for each event of this type on `target`, as long as the component is there. */
export function useListener(target, type, handle) {
  useEffect(() => {
    target.addEventListener(type, handle);
    return () => target.removeEventListener(type, handle);
  });
}
