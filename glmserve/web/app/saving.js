// Values as files.

/** Let the browser save the value as a file of JSON. */
export function saveFile(name, value) {
  const blob = new Blob([JSON.stringify(value, null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(blob), download: name.replace(/[\\/:*?"<>|]/g, "_"),
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
