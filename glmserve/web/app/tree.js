// A conversation is a tree: editing or regenerating adds a branch beside the old one.

/** The messages from the beginning to this one. A file may have been changed so that they form a
 * circle; then each of them is there once. */
export function pathTo(messages, id) {
  const path = new Set();
  for (let at = messages.get(id); at && !path.has(at); at = messages.get(at.parent)) path.add(at);
  return [...path].reverse();
}

/** Messages with the same parent, oldest first. */
export function siblings(messages, message) {
  return [...messages.values()]
    .filter((one) => one.parent === message.parent)
    .sort((a, b) => a.created - b.created);
}

/** The last message below this one, by the newest branch at each fork. */
export function newestLeaf(messages, id) {
  const newest = new Map();
  for (const one of messages.values()) {
    const known = newest.get(one.parent);
    if (!known || one.created >= known.created) newest.set(one.parent, one);
  }
  let at = id;
  for (const seen = new Set(); newest.has(at) && !seen.has(at);) {
    seen.add(at);
    at = newest.get(at).id;
  }
  return at;
}
