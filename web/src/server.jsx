/** What the server does now. */
import { useEffect, useState } from 'preact/hooks';
import { get } from './api.js';
import { bytes, number } from './format.js';

const INTERVAL = 1000; // milliseconds
const KEPT = 60; // of the last figures

/** {now, history: tokens per second, problem}; asks while the page is looked at. */
export function useStatus(key) {
  const [state, setState] = useState({ now: null, history: [], problem: '' });
  useEffect(() => {
    const ended = new AbortController();
    let timer;
    const ask = async () => {
      if (!document.hidden) {
        try {
          const now = await get('nibble/status', ended.signal);
          const rate = now.models.reduce((sum, m) => sum + (m.tokens_per_second ?? 0), 0);
          setState(({ history }) => ({ now, history: [...history, rate].slice(-KEPT), problem: '' }));
        } catch (error) {
          if (ended.signal.aborted) return;
          setState((old) => ({ ...old, problem: error.message }));
          if (error.status === 401) return; // until there is another key
        }
      }
      timer = setTimeout(ask, INTERVAL);
    };
    ask();
    return () => {
      ended.abort();
      clearTimeout(timer);
    };
  }, [key]);
  return state;
}

export function LiveFigures({ status }) {
  if (!status.now) return null;
  const { models, resident_bytes: memory } = status.now;
  const active = models.reduce((sum, m) => sum + (m.active ?? 0), 0);
  const rate = status.history.at(-1) ?? 0;
  return (
    <a class="live" href="#server">
      <span class="visually-hidden">Live figures: </span>
      <span class={`lamp ${active ? 'on' : ''}`} aria-hidden="true" />
      <span class="rate">{number(rate)} tok/s</span>
      <span>{bytes(memory)}</span>
    </a>
  );
}

function Curve({ values }) {
  const width = 240;
  const height = 56;
  const top = Math.max(1, ...values);
  const points = values.map((v, i) => `${(width * (KEPT - values.length + i)) / (KEPT - 1)},${height - 2 - ((height - 4) * v) / top}`);
  return (
    <svg class="curve" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" aria-hidden="true">
      <polyline points={points.join(' ')} />
    </svg>
  );
}

function ModelCard({ model }) {
  const share = (n) => number(n ?? 0);
  return (
    <section class="card">
      <h3>
        {model.name} <span class={`badge ${model.loaded ? 'loaded' : ''}`}>{model.loaded ? 'loaded' : 'not loaded'}</span>
      </h3>
      <dl class="figures">
        <div><dt>File</dt><dd>{bytes(model.file_bytes)}</dd></div>
        <div><dt>Memory at most</dt><dd>{bytes(model.memory_bytes)}</dd></div>
        <div><dt>Mostly in</dt><dd>{model.format}</dd></div>
        <div><dt>Parameters</dt><dd>{number(model.parameters / 1e6)} M</dd></div>
        <div><dt>Context</dt><dd>{model.context} tokens</dd></div>
        {model.loaded && (
          <>
            <div><dt>Writing</dt><dd>{share(model.tokens_per_second)} tok/s</dd></div>
            <div><dt>Reading</dt><dd>{share(model.prompt_tokens_per_second)} tok/s</dd></div>
            <div><dt>Active, waiting</dt><dd>{model.active}, {model.waiting}</dd></div>
          </>
        )}
      </dl>
    </section>
  );
}

export function ServerView({ status }) {
  const { now, history } = status;
  if (!now) return null;
  return (
    <div class="server">
      <div class="cards">
        <section class="card">
          <h3>Tokens per second</h3>
          <p class="figure">{number(history.at(-1) ?? 0)}</p>
          <Curve values={history} />
          <p class="note">Written by all models, in the last minute.</p>
        </section>
        <section class="card">
          <h3>Memory</h3>
          <p class="figure">{bytes(now.resident_bytes)}</p>
          <meter min={0} max={now.machine_bytes} value={now.resident_bytes} aria-label="Memory of the server in that of the machine" />
          <p class="note">of {bytes(now.machine_bytes)} in this machine. nibble {now.version}.</p>
        </section>
      </div>
      <div class="cards">
        {now.models.map((model) => (
          <ModelCard key={model.name} model={model} />
        ))}
      </div>
    </div>
  );
}
