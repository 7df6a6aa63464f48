/** Small pieces of state that outlive a view, some of them the page. */
import { useEffect, useState } from 'preact/hooks';

function read(storage, name, otherwise) {
  try {
    return JSON.parse(storage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // blocked, or not ours
  }
}

function write(storage, name, value) {
  try {
    storage.setItem(name, JSON.stringify(value));
  } catch {
    // full or blocked: the page works, it only forgets
  }
}

/** A value that is watched; kept in `storage` under `name` if they are given. */
export function store(initial, storage, name) {
  let value = storage ? read(storage, name, initial) : initial;
  const watchers = new Set();
  return {
    get: () => value,
    set(next) {
      value = next;
      if (storage) write(storage, name, value);
      watchers.forEach((watch) => watch(value));
    },
    watch(watcher) {
      watchers.add(watcher);
      return () => watchers.delete(watcher);
    },
  };
}

export function useStore(source) {
  const [value, setValue] = useState(() => source.get());
  useEffect(() => {
    setValue(() => source.get());
    return source.watch((next) => setValue(() => next));
  }, [source]);
  return value;
}

/** What screen readers are told. */
export const announcement = store('');
export const announce = (text) => announcement.set(text);

/** "", "light" or "dark"; "" is as the system says. */
export const theme = store('', localStorage, 'nibble.theme');
