// Conversations in IndexedDB; in memory alone where the browser has none to give.

const NAME = "glmserve";
const memory = { chats: new Map(), messages: new Map() };

const opening = new Promise((done) => {
  try {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("chats", { keyPath: "id" });
      request.result.createObjectStore("messages", { keyPath: "id" }).createIndex("chat", "chat");
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => done(null);
  } catch { done(null); }
});

function answered(request) {
  return new Promise((done, fail) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => fail(request.error);
  });
}

/** Everything in a store, or what an index has under a key. */
export async function all(store, index, key) {
  const base = await opening;
  if (!base) return [...memory[store].values()].filter((v) => !index || v[index] === key);
  const source = base.transaction(store).objectStore(store);
  return answered(index ? source.index(index).getAll(key) : source.getAll());
}

export async function get(store, id) {
  const base = await opening;
  return base ? answered(base.transaction(store).objectStore(store).get(id)) : memory[store].get(id);
}

/** Write values; ends when they are kept. */
export async function put(store, ...values) {
  const base = await opening;
  if (!base) return void values.forEach((v) => memory[store].set(v.id, structuredClone(v)));
  const transaction = base.transaction(store, "readwrite");
  values.forEach((value) => transaction.objectStore(store).put(value));
  return new Promise((done, fail) => {
    transaction.oncomplete = () => done();
    transaction.onerror = transaction.onabort = () => fail(transaction.error);
  });
}

/** Remove a conversation with its messages. */
export async function removeChat(id) {
  const base = await opening;
  const ids = (await all("messages", "chat", id)).map((message) => message.id);
  if (!base) {
    memory.chats.delete(id);
    return void ids.forEach((one) => memory.messages.delete(one));
  }
  const transaction = base.transaction(["chats", "messages"], "readwrite");
  transaction.objectStore("chats").delete(id);
  ids.forEach((one) => transaction.objectStore("messages").delete(one));
}

/** Ids of conversations in which a message contains the text, in any case. */
export async function chatsWith(text) {
  const wanted = text.toLowerCase();
  const found = new Set();
  const base = await opening;
  const look = (m) => m.content?.toLowerCase().includes(wanted) && found.add(m.chat);
  if (!base) {
    memory.messages.forEach(look);
    return found;
  }
  return new Promise((done, fail) => {
    const request = base.transaction("messages").objectStore("messages").openCursor();
    request.onerror = () => fail(request.error);
    request.onsuccess = () => {
      if (!request.result) return done(found);
      look(request.result.value);
      request.result.continue();
    };
  });
}
