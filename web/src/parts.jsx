/** Small elements that several views use. */
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { announce } from './store.js';

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Pages from other machines over plain HTTP have no clipboard of their own.
  const area = document.createElement('textarea');
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand('copy');
  area.remove();
  if (!done) throw new Error('refused');
}

export function CopyButton({ text, label = 'Copy' }) {
  const [shown, setShown] = useState('');
  useEffect(() => {
    const timer = shown && setTimeout(() => setShown(''), 2000);
    return () => clearTimeout(timer);
  }, [shown]);
  const click = async () => {
    try {
      await copy(text);
      setShown('Copied');
      announce('Copied');
    } catch {
      setShown('Not allowed');
    }
  };
  return (
    <button type="button" class="quiet" onClick={click} aria-label={label}>
      {shown || 'Copy'}
    </button>
  );
}

export function Select({ label, value, options, onChange, hidden = false }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id} class={hidden ? 'visually-hidden' : ''}>
        {label}
      </label>
      <select id={id} value={value} onChange={(e) => onChange(e.currentTarget.value)}>
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </div>
  );
}

/** A number within bounds; what is not is not taken. */
export function NumberField({ label, value, min, max, step = 1, onChange }) {
  const id = useId();
  const input = (e) => {
    const number = e.currentTarget.valueAsNumber;
    if (e.currentTarget.checkValidity() && Number.isFinite(number)) onChange(number);
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <input id={id} type="number" required value={value} min={min} max={max} step={step} onInput={input} />
    </div>
  );
}

export function TextField({ label, value, onChange, placeholder, rows = 3 }) {
  const id = useId();
  return (
    <div class="field wide">
      <label for={id}>{label}</label>
      <textarea id={id} rows={rows} value={value} placeholder={placeholder} onInput={(e) => onChange(e.currentTarget.value)} />
    </div>
  );
}

/** One of a few, as a row of buttons that are radio buttons. */
export function Choice({ label, value, options, onChange }) {
  const name = useId();
  return (
    <fieldset class="choice">
      <legend class="visually-hidden">{label}</legend>
      {options.map(([key, text]) => (
        <label key={key}>
          <input type="radio" name={name} checked={key === value} onChange={() => onChange(key)} />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

export function Problem({ children }) {
  return (
    <p class="problem" role="alert">
      {children}
    </p>
  );
}

/** Where a text is written. Enter sends, Shift+Enter begins a line; while busy the button stops. */
export function Composer({ label, text, onText, busy, onSend, onStop, disabled = false, send = 'Send' }) {
  const id = useId();
  const area = useRef();
  useEffect(() => {
    area.current.style.height = 'auto';
    area.current.style.height = `${Math.min(area.current.scrollHeight + 2, 240)}px`;
  }, [text]);
  const submit = () => {
    if (!busy && !disabled && text.trim()) onSend();
  };
  const key = (e) => {
    if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    submit();
  };
  const click = () => {
    if (busy) onStop();
    else submit();
    area.current.focus();
  };
  return (
    <form class="composer" onSubmit={(e) => e.preventDefault()}>
      <label for={id} class="visually-hidden">
        {label}
      </label>
      <textarea
        id={id}
        ref={area}
        rows={1}
        value={text}
        placeholder={label}
        aria-keyshortcuts="Enter"
        onInput={(e) => onText(e.currentTarget.value)}
        onKeyDown={key}
      />
      <button type="button" class={busy ? 'stop' : 'primary'} onClick={click} disabled={!busy && (disabled || !text.trim())}>
        {busy ? 'Stop' : send}
      </button>
    </form>
  );
}

/** Escape calls `stop` while `busy`. */
export function useEscape(busy, stop) {
  useEffect(() => {
    if (!busy) return undefined;
    const key = (e) => e.key === 'Escape' && stop();
    document.addEventListener('keydown', key);
    return () => document.removeEventListener('keydown', key);
  }, [busy, stop]);
}
