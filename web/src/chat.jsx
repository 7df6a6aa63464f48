/** One conversation with one model. */
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { generate } from './api.js';
import { number, seconds } from './format.js';
import { Markdown } from './markdown.jsx';
import { Composer, CopyButton, Problem, Select, useEscape } from './parts.jsx';
import { chatSettings, SettingsFields, withSystem } from './settings.jsx';
import { announce, store, useStore } from './store.js';

/** [{role, content, note}] */
const conversation = store([], localStorage, 'nibble.chat');

function noteOf(answer, model) {
  const parts = [model.name, `${answer.tokens} tokens`];
  if (answer.rate) parts.push(`${number(answer.rate)} tokens/s`);
  if (answer.first) parts.push(`first after ${seconds(answer.first)}`);
  if (answer.finish === 'length') parts.push('cut at the limit of tokens');
  return parts.join(' · ');
}

function Message({ message, last, busy, onAgain }) {
  const own = message.role === 'user';
  return (
    <article class={`message ${message.role}`} aria-label={own ? 'You' : 'Answer'}>
      {own ? <p class="own">{message.content}</p> : <Markdown text={message.content} />}
      {!own && !(busy && last) && (
        <footer>
          <span class="note">{message.note}</span>
          <CopyButton text={message.content} label="Copy answer" />
          {last && (
            <button type="button" class="quiet" onClick={onAgain}>
              Regenerate
            </button>
          )}
        </footer>
      )}
      {!own && busy && last && !message.content && (
        <p class="waiting">
          <span class="dots" aria-hidden="true" /> Reading the prompt
        </p>
      )}
    </article>
  );
}

/** Stays at the end of the page while an answer grows, unless the reader has scrolled away. */
function useFollow(messages) {
  const end = useRef();
  const near = useRef(true);
  useEffect(() => {
    const scroll = () => {
      near.current = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 120;
    };
    window.addEventListener('scroll', scroll, { passive: true });
    return () => window.removeEventListener('scroll', scroll);
  }, []);
  useEffect(() => {
    if (near.current && messages.length) end.current?.scrollIntoView({ block: 'end' });
  }, [messages]);
  return end;
}

export function Chat({ models }) {
  const messages = useStore(conversation);
  const settings = useStore(chatSettings);
  const [text, setText] = useState('');
  const [problem, setProblem] = useState('');
  const [stopping, setStopping] = useState(null); // an AbortController while an answer comes
  const end = useFollow(messages);
  const model = models.find((m) => m.name === settings.model) ?? models[0];
  const busy = stopping !== null;
  const stop = useCallback(() => stopping?.abort(), [stopping]);
  useEscape(busy, stop);

  const answer = async (asked) => {
    const controller = new AbortController();
    setStopping(controller);
    setProblem('');
    announce('Answering');
    const show = (content, note = '') => conversation.set([...asked, { role: 'assistant', content, note }]);
    let written = '';
    show('');
    try {
      const plain = asked.map(({ role, content }) => ({ role, content }));
      const made = await generate(model, withSystem(settings, plain), settings, controller.signal, (so) => show((written = so)));
      show(made.text, noteOf(made, model));
      announce(`Answer: ${made.text}`);
    } catch (error) {
      if (written) show(written, `${model.name} · stopped`);
      else conversation.set(asked);
      if (controller.signal.aborted) announce('Stopped');
      else setProblem(error.message);
    } finally {
      setStopping(null);
    }
  };

  const send = () => {
    const asked = [...messages, { role: 'user', content: text.trim() }];
    setText('');
    answer(asked);
  };
  const unanswered = messages.at(-1)?.role === 'user';

  return (
    <div class="chat">
      <div class="bar">
        <Select
          label="Model"
          value={model?.name}
          options={models.map((m) => [m.name, m.name])}
          onChange={(name) => chatSettings.set({ ...settings, model: name })}
        />
        <details class="settings">
          <summary>Settings</summary>
          <div class="fields">
            <SettingsFields value={settings} onChange={(next) => chatSettings.set(next)} />
          </div>
        </details>
        <button
          type="button"
          class="plain"
          disabled={busy || !messages.length}
          onClick={() => {
            conversation.set([]);
            setProblem('');
            announce('Conversation cleared');
          }}
        >
          Clear
        </button>
      </div>
      {!messages.length && (
        <div class="empty">
          <p class="large">Ask something.</p>
          <p>
            {model && !model.chat
              ? `${model.name} has no chat template: it continues your text instead of answering it.`
              : 'Answers are made on this server and go nowhere else. The conversation stays in this browser.'}
          </p>
        </div>
      )}
      <div class="messages" role="log" aria-live="off" aria-label="Conversation">
        {messages.map((message, i) => (
          <Message
            key={i}
            message={message}
            last={i === messages.length - 1}
            busy={busy}
            onAgain={() => answer(messages.slice(0, i))}
          />
        ))}
      </div>
      {problem && <Problem>{problem}</Problem>}
      {unanswered && !busy && (
        <button type="button" class="plain" onClick={() => answer(messages)}>
          Try again
        </button>
      )}
      <div ref={end} class="end" />
      <div class="dock">
        <Composer label="Your message" text={text} onText={setText} busy={busy} onSend={send} onStop={stop} disabled={!model} />
        <p class="hint">Enter sends, Shift+Enter begins a new line, Escape stops.</p>
      </div>
    </div>
  );
}
