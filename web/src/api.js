/** The server: requests, streams, and what goes wrong in plain words. */
import { store } from './store.js';

/** Kept until the tab is closed, and nowhere else. */
export const apiKey = store('', sessionStorage, 'nibble.key');
/** "", "missing" or "wrong". */
export const keyProblem = store('');

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const INTERVAL = 60; // milliseconds between two views of a growing text
const UNREACHABLE = 'The server cannot be reached. Is nibble serve still running?';
const NO_ROOM = 'The memory for models is in use by other requests. Try again in a moment.';
const BROKEN = 'The connection broke before the answer was complete.';

function inWords(status, said) {
  switch (status) {
    case 401:
      return apiKey.get() ? 'The server did not accept this API key.' : 'The server asks for an API key.';
    case 413:
      return 'This is more text than the server takes in one request.';
    case 503:
      if (/about to end/.test(said)) return 'The server is shutting down.';
      if (/both models/.test(said)) return 'A comparison needs both models in memory at once, and there is no room for that now.';
      if (/memory/.test(said)) return NO_ROOM;
      return 'The server is busy: too many requests are waiting. Try again in a moment.';
    default:
      return said || `The server answered with status ${status}.`;
  }
}

async function said(reply) {
  try {
    const { error } = await reply.json();
    return error.message ?? error; // OpenAI's form, or Ollama's
  } catch {
    return '';
  }
}

/** A reply of status 200; throws ApiError, or AbortError if the signal was given. */
async function call(path, body, signal) {
  const headers = {};
  if (apiKey.get()) headers.Authorization = `Bearer ${apiKey.get()}`;
  const options = body ? { method: 'POST', body: JSON.stringify(body) } : {};
  let reply;
  try {
    reply = await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, UNREACHABLE);
  }
  if (reply.status === 401) keyProblem.set(apiKey.get() ? 'wrong' : 'missing');
  if (!reply.ok) throw new ApiError(reply.status, inWords(reply.status, await said(reply)));
  if (keyProblem.get()) keyProblem.set('');
  return reply;
}

export async function get(path, signal) {
  return (await call(path, undefined, signal)).json();
}

/** The lines of a streamed reply. */
async function* lines(path, body, signal) {
  const reply = await call(path, body, signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = (rest + value).split('\n');
      rest = parts.pop();
      yield* parts.filter(Boolean);
    }
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, BROKEN);
  } finally {
    reader.cancel().catch(() => {});
  }
}

function check(document) {
  if (document.error) throw new ApiError(500, document.error.message);
  return document;
}

async function* events(path, body, signal) {
  for await (const line of lines(path, body, signal)) {
    if (line === 'data: [DONE]') return;
    if (line.startsWith('data: ')) yield check(JSON.parse(line.slice(6)));
  }
  throw new ApiError(0, BROKEN);
}

/** A model without a chat template continues the text. */
function question(model, messages, settings) {
  const common = {
    model: model.name,
    max_tokens: settings.maxTokens,
    temperature: settings.temperature,
    top_p: settings.topP,
    stream: true,
    stream_options: { include_usage: true },
  };
  if (model.chat) return ['v1/chat/completions', { ...common, messages }];
  return ['v1/completions', { ...common, prompt: messages.map((m) => m.content).join('') }];
}

/**
 * Streams an answer. onText(text so far) is called as it grows, some times a second.
 * Gives {text, finish, tokens, first (seconds to the first token), rate (tokens a second after it)}.
 */
export async function generate(model, messages, settings, signal, onText) {
  const [path, body] = question(model, messages, settings);
  const start = performance.now();
  const out = { text: '', finish: '', tokens: 0, first: NaN, rate: NaN };
  let shown = 0;
  for await (const chunk of events(path, body, signal)) {
    if (chunk.usage) out.tokens = chunk.usage.completion_tokens;
    const choice = chunk.choices[0];
    if (!choice) continue;
    const piece = choice.delta?.content ?? choice.text ?? '';
    if (piece && Number.isNaN(out.first)) out.first = (performance.now() - start) / 1000;
    out.text += piece;
    if (choice.finish_reason) out.finish = choice.finish_reason;
    if (piece && performance.now() - shown > INTERVAL) {
      onText(out.text);
      shown = performance.now();
    }
  }
  const writing = (performance.now() - start) / 1000 - out.first;
  if (out.tokens > 1 && writing > 0) out.rate = (out.tokens - 1) / writing;
  return out;
}

/**
 * Returns when the model is in memory, so that no time is counted for reading it. Another model may have to leave for
 * it, which the server may be about to see that nobody uses any more.
 */
export async function load(model, signal) {
  for (let tries = 3; ; --tries) {
    try {
      return await call('api/generate', { model: model.name }, signal);
    } catch (error) {
      if (error.message !== NO_ROOM || tries === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}

/** How far a model's predictions of its answer are from the reference's; onTokens(all so far). */
export async function disagreement(model, reference, messages, text, signal, onTokens) {
  const prompt = model.chat ? { messages } : { prompt: messages.map((m) => m.content).join('') };
  const body = { ...prompt, model: model.name, reference: reference.name, text, stream: true };
  let tokens = [];
  for await (const line of lines('nibble/compare', body, signal)) {
    const { tokens: more, ...summary } = check(JSON.parse(line));
    tokens = tokens.concat(more);
    onTokens(tokens);
    if ('kld_mean' in summary) return { tokens, ...summary };
  }
  throw new ApiError(0, BROKEN);
}

/** The levels of a model on this machine. `memory`: in GB, 0: what is free. */
export async function advice({ model, purpose, context, memory }) {
  const body = { model, for: purpose, context, memory_bytes: Math.round(memory * 1e9) };
  return (await call('nibble/advise', body)).json();
}
