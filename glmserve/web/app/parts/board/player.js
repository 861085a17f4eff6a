// A recording on the board: a slider over its time, and a button that lets it run.
import { html, useEffect, useMemo, useState } from "../../lib.js";
import { t } from "../../language.js";
import { IconButton } from "../icons.js";

const TICK = 100; // milliseconds; a moment is as long

/** `show` draws a board view. */
export function RecordingPlayer({ recording, name, close, show }) {
  const last = recording.moments.length - 1;
  const [place, setPlace] = useState(last);
  const [isRunning, setRunning] = useState(false);
  useEffect(() => {
    if (!isRunning) return undefined;
    const timer = setInterval(() => setPlace((now) => Math.min(last, now + 1)), TICK);
    return () => clearInterval(timer);
  }, [isRunning]);
  useEffect(() => { if (place === last) setRunning(false); }, [place]);
  const view = useMemo(() => recording.viewAt(place), [recording, place]);
  const toggle = () => { if (place === last) setPlace(0); setRunning(!isRunning); };
  return html`<section class="card player">
      <strong dir="auto">${name}</strong>
      <${IconButton} name=${isRunning ? "stop" : "play"} label=${isRunning ? t("pause") : t("run")} onClick=${toggle} />
      <input type="range" min="0" max=${last} value=${place} aria-label=${t("recording_time")}
        aria-valuetext=${`${(place / 10).toFixed(1)} s`} onInput=${(event) => setPlace(Number(event.target.value))} />
      <span class="facts">${(place / 10).toFixed(1)} / ${(last / 10).toFixed(1)} s</span>
      <button type="button" class="plain-button" onClick=${close}>${t("close")}</button>
    </section>
    ${show(view)}`;
}
