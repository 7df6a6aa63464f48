/** One prompt to several levels of a model: answers side by side, and how far each is from the original. */
import { useCallback, useId, useMemo, useState } from 'preact/hooks';
import { disagreement, generate, load } from './api.js';
import { differences, inWords } from './diff.js';
import { bytes, number, percent, seconds } from './format.js';
import { Markdown } from './markdown.jsx';
import { Choice, Composer, CopyButton, Problem, Select, useEscape } from './parts.jsx';
import { compareSettings, SettingsFields, withSystem } from './settings.jsx';
import { announce, useStore } from './store.js';
import { Legend, Tokens } from './tokens.jsx';

const MOST = 4;

const largest = (models) => models.reduce((a, b) => (b.file_bytes > a.file_bytes ? b : a));

/** The settings as far as these models are there. */
function chosen(models, settings) {
  const known = models.filter((m) => settings.models?.includes(m.name));
  const selected = known.length ? known : models.slice(0, MOST);
  return { selected, reference: models.find((m) => m.name === settings.reference) ?? largest(models) };
}

function Pick({ models, settings, onChange }) {
  const { selected, reference } = chosen(models, settings);
  const names = selected.map((m) => m.name);
  const toggle = (name) =>
    onChange({ ...settings, models: names.includes(name) ? names.filter((n) => n !== name) : [...names, name] });
  return (
    <div class="pick">
      <fieldset>
        <legend>Levels to compare, two to four</legend>
        {models.map((m) => {
          const on = names.includes(m.name);
          return (
            <label key={m.name} class="check">
              <input type="checkbox" checked={on} disabled={on ? names.length <= 1 : names.length >= MOST} onChange={() => toggle(m.name)} />
              <span>
                {m.name} <small>{bytes(m.file_bytes)}</small>
              </span>
            </label>
          );
        })}
      </fieldset>
      <Select
        label="Original"
        value={reference.name}
        options={selected.map((m) => [m.name, m.name])}
        onChange={(name) => onChange({ ...settings, reference: name })}
      />
    </div>
  );
}

function Figures({ made, compared, size }) {
  const rows = [
    ['Size', bytes(size)],
    ['Speed', made?.rate ? `${number(made.rate)} tokens/s` : '–'],
    ['First token', made ? seconds(made.first) : '–'],
    ['KL divergence', number(compared?.summary?.kld_mean)],
    ['Same first choice', percent(compared?.summary?.same_top)],
  ];
  return (
    <dl class="figures">
      {rows.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function Differences({ text, original }) {
  const pieces = useMemo(() => differences(text, original), [text, original]);
  return (
    <>
      <p class="note">{inWords(text, original)}</p>
      <div class="plain-text">
        {pieces.map(([piece, other], i) => (other ? <ins key={i}>{piece}</ins> : piece))}
      </div>
    </>
  );
}

function AnswerText({ name, result, original, view }) {
  if (view === 'rendered' || result.state !== 'done') return <Markdown text={result.text} />;
  if (view === 'differences' && original && original !== result)
    return original.state === 'done' ? <Differences text={result.text} original={original.text} /> : <Markdown text={result.text} />;
  if (view === 'disagreement' && result.compared)
    return <Tokens tokens={result.compared.tokens} label={`Tokens of ${name}`} />;
  return <div class="plain-text">{result.text}</div>;
}

const STATES = {
  waiting: 'Waiting for its turn',
  loading: 'Loading the model',
  reading: 'Reading the prompt',
  writing: 'Writing',
  comparing: 'Comparing with the original',
  stopped: 'Stopped',
};

function Column({ model, result, original, view }) {
  const id = useId();
  const isOriginal = result === original;
  const state = result.comparing ? 'comparing' : result.state;
  return (
    <section class={`column ${isOriginal ? 'original' : ''}`} aria-labelledby={id} aria-busy={state in STATES && state !== 'stopped'}>
      <header>
        <h3 id={id}>
          {model.name} {isOriginal && <span class="badge">original</span>}
        </h3>
        {result.text && <CopyButton text={result.text} label={`Copy the answer of ${model.name}`} />}
      </header>
      <Figures made={result.made} compared={result.compared} size={model.file_bytes} />
      {STATES[state] && (
        <p class="waiting">
          {state !== 'stopped' && <span class="dots" aria-hidden="true" />} {STATES[state]}
        </p>
      )}
      {result.text && <AnswerText name={model.name} result={result} original={original} view={view} />}
      {result.problem && <Problem>{result.problem}</Problem>}
    </section>
  );
}

/** Runs everything; `update(name, change)` shows what has come. */
async function run(models, reference, messages, settings, signal, update) {
  const texts = {};
  const ask = async (model) => {
    let written = '';
    try {
      update(model.name, { state: 'loading' });
      await load(model, signal);
      update(model.name, { state: 'reading' });
      const made = await generate(model, messages, settings, signal, (text) => {
        written = text;
        update(model.name, { text, state: 'writing' });
      });
      texts[model.name] = made.text;
      update(model.name, { text: made.text, made, state: 'done' });
    } catch (error) {
      if (signal.aborted) update(model.name, { text: written, state: 'stopped' });
      else update(model.name, { text: written, state: 'failed', problem: error.message });
    }
  };
  const compare = async (model) => {
    if (!texts[model.name] || signal.aborted) return;
    update(model.name, { comparing: true });
    try {
      const { tokens, ...summary } = await disagreement(model, reference, messages, texts[model.name], signal, (so) =>
        update(model.name, { compared: { tokens: so } }),
      );
      update(model.name, { compared: { tokens, summary } });
    } catch (error) {
      if (!signal.aborted) update(model.name, { problem: error.message });
    }
    update(model.name, { comparing: false });
  };
  if (settings.together) await Promise.all(models.map(ask));
  else for (const model of models) if (!signal.aborted) await ask(model);
  for (const model of models) if (model !== reference) await compare(model);
}

const VIEWS = [
  ['differences', 'Differences'],
  ['disagreement', 'Disagreement'],
  ['rendered', 'Formatted'],
];

function spoken(models, results) {
  return models
    .map(({ name }) => {
      const { made, compared } = results[name];
      const parts = [made?.rate && `${number(made.rate)} tokens a second`, compared?.summary && `KL divergence ${number(compared.summary.kld_mean)}`];
      return `${name}: ${parts.filter(Boolean).join(', ') || 'no answer'}`;
    })
    .join('. ');
}

export function Compare({ models }) {
  const settings = useStore(compareSettings);
  const [text, setText] = useState('');
  const [view, setView] = useState('differences');
  const [shown, setShown] = useState(null); // {prompt, models, reference, results: {name: ...}}
  const [stopping, setStopping] = useState(null);
  const busy = stopping !== null;
  const stop = useCallback(() => stopping?.abort(), [stopping]);
  useEscape(busy, stop);
  if (!models.length) return null;
  const { selected, reference: wanted } = chosen(models, settings);
  const reference = selected.includes(wanted) ? wanted : largest(selected);

  const send = async () => {
    const controller = new AbortController();
    const prompt = text.trim();
    const ordered = [reference, ...selected.filter((m) => m !== reference)];
    const results = Object.fromEntries(ordered.map((m) => [m.name, { text: '', state: 'waiting' }]));
    const show = () => setShown({ prompt, models: ordered, reference, results: { ...results } });
    const update = (name, change) => {
      results[name] = { ...results[name], ...change };
      show();
    };
    setStopping(controller);
    announce('Comparing');
    show();
    await run(ordered, reference, withSystem(settings, [{ role: 'user', content: prompt }]), settings, controller.signal, update);
    for (const { name } of ordered) if (results[name].state === 'waiting') update(name, { state: 'stopped' });
    setStopping(null);
    announce(controller.signal.aborted ? 'Stopped' : `Compared. ${spoken(ordered, results)}`);
  };

  return (
    <div class="compare">
      <Pick models={models} settings={{ ...settings, reference: reference.name }} onChange={(next) => compareSettings.set(next)} />
      {models.length < 2 && (
        <p class="hint">
          To compare levels, serve several files of one model: <code>nibble serve f16.gguf q4.gguf q2.gguf</code>
        </p>
      )}
      <details class="settings">
        <summary>Settings</summary>
        <div class="fields">
          <SettingsFields value={settings} onChange={(next) => compareSettings.set(next)} />
          <label class="check wide">
            <input
              type="checkbox"
              checked={settings.together}
              onChange={(e) => compareSettings.set({ ...settings, together: e.currentTarget.checked })}
            />
            <span>
              All at once <small>sooner done, but they take processor time from each other and speeds say less</small>
            </span>
          </label>
        </div>
      </details>
      <Composer
        label="One prompt for all of them"
        text={text}
        onText={setText}
        busy={busy}
        onSend={send}
        onStop={stop}
        disabled={selected.length < 2}
        send="Compare"
      />
      {shown && (
        <>
          <div class="bar between">
            <p class="asked">{shown.prompt}</p>
            <Choice label="What is marked" value={view} options={VIEWS} onChange={setView} />
          </div>
          {view === 'disagreement' && <Legend />}
          <div class="columns" style={{ '--columns': shown.models.length }}>
            {shown.models.map((m) => (
              <Column key={m.name} model={m} result={shown.results[m.name]} original={shown.results[shown.reference.name]} view={view} />
            ))}
          </div>
        </>
      )}
    </div>
  );
}
