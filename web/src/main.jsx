import { render } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { Advise } from './advise.jsx';
import { apiKey, keyProblem } from './api.js';
import { Chat } from './chat.jsx';
import { Compare } from './compare.jsx';
import { Problem } from './parts.jsx';
import { LiveFigures, ServerView, useStatus } from './server.jsx';
import { announcement, theme, useStore } from './store.js';
import './style.css';

const VIEWS = [
  ['chat', 'Chat', Chat],
  ['compare', 'Compare', Compare],
  ['advise', 'Advise', Advise],
  ['server', 'Server', ServerView],
];

const viewOf = () => VIEWS.find(([id]) => `#${id}` === location.hash)?.[0] ?? 'chat';

/** The view that the address names; going to another one moves the focus to its heading. */
function useView() {
  const [view, setView] = useState(viewOf);
  const heading = useRef();
  const moved = useRef(false);
  useEffect(() => {
    const change = () => {
      moved.current = true;
      setView(viewOf());
    };
    window.addEventListener('hashchange', change);
    return () => window.removeEventListener('hashchange', change);
  }, []);
  useEffect(() => {
    if (moved.current) heading.current?.focus();
  }, [view]);
  return [view, heading];
}

const THEMES = { '': ['As the system', 'dark'], dark: ['Dark', 'light'], light: ['Light', ''] };

function ThemeButton() {
  const now = useStore(theme);
  useEffect(() => {
    document.documentElement.dataset.theme = now;
  }, [now]);
  const [name, next] = THEMES[now] ?? THEMES[''];
  return (
    <button type="button" class="icon" onClick={() => theme.set(next)} aria-label={`Colours: ${name}`} title={`Colours: ${name}`}>
      <span aria-hidden="true">{{ '': '◐', dark: '☾', light: '☀' }[now] ?? '◐'}</span>
    </button>
  );
}

function KeyForm({ problem }) {
  const id = useId();
  const [text, setText] = useState('');
  const input = useRef();
  useEffect(() => input.current.focus(), []);
  const submit = (e) => {
    e.preventDefault();
    apiKey.set(text.trim());
  };
  return (
    <form class="key card" onSubmit={submit}>
      <h2>API key</h2>
      <p>This server was started with a key. It stays in this tab and is forgotten when the tab closes.</p>
      <div class="bar">
        <div class="field wide">
          <label for={id}>Key</label>
          <input id={id} ref={input} type="password" autocomplete="off" value={text} onInput={(e) => setText(e.currentTarget.value)} />
        </div>
        <button type="submit" class="primary" disabled={!text.trim()}>
          Use it
        </button>
      </div>
      {problem === 'wrong' && <Problem>The server did not accept this API key.</Problem>}
    </form>
  );
}

function App() {
  const [view, heading] = useView();
  const key = useStore(apiKey);
  const problem = useStore(keyProblem);
  const status = useStatus(key);
  const models = status.now?.models ?? [];
  return (
    <>
      <a class="skip" href="#main" onClick={(e) => { e.preventDefault(); heading.current?.focus(); }}>
        Skip to the content
      </a>
      <header class="top">
        <h1>nibble</h1>
        <nav aria-label="Views">
          {VIEWS.map(([id, name]) => (
            <a key={id} href={`#${id}`} aria-current={id === view ? 'page' : undefined}>
              {name}
            </a>
          ))}
        </nav>
        <LiveFigures status={status} />
        <ThemeButton />
      </header>
      <main id="main">
        {status.problem && !problem && <Problem>{status.problem}</Problem>}
        {problem ? (
          <KeyForm problem={problem} />
        ) : (
          VIEWS.map(([id, name, View]) => (
            <div key={id} class="view" hidden={id !== view}>
              <h2 tabIndex={-1} ref={id === view ? heading : null}>
                {name}
              </h2>
              {status.now && <View models={models} status={status} />}
            </div>
          ))
        )}
      </main>
      <div class="visually-hidden" role="status">
        {useStore(announcement)}
      </div>
    </>
  );
}

render(<App />, document.getElementById('app'));
