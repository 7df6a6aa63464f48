/** The tokens of an answer, coloured by how far the model's prediction of each is from the original's. */
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { number, percent } from './format.js';

/** Nats, at least; the class of the token. */
const STEPS = [
  [2, 'k4', 'over 2'],
  [0.5, 'k3', '0.5 to 2'],
  [0.1, 'k2', '0.1 to 0.5'],
  [0.02, 'k1', '0.02 to 0.1'],
  [0, 'k0', 'under 0.02'],
];

const step = (kld) => STEPS.find(([least]) => kld >= least) ?? STEPS.at(-1);
const differs = (token) => token.top !== token.reference_top;

/** Tokens as they are read out: spaces and line ends by name. */
function named(text) {
  const shown = text.replace(/\n/g, '⏎').replace(/\t/g, '⇥');
  if (shown.trim()) return `“${shown.trim()}”`;
  return shown ? 'a space' : 'a part of a character';
}

export function Legend() {
  return (
    <ul class="legend" aria-label="Colours: KL divergence from the original in nats a token">
      {[...STEPS].reverse().map(([, name, text]) => (
        <li key={name}>
          <span class={`swatch ${name}`} aria-hidden="true" /> {text}
        </li>
      ))}
      <li>
        <span class="swatch other-top" aria-hidden="true">ab</span> another first choice
      </li>
    </ul>
  );
}

function Detail({ token }) {
  if (!token) return <p class="detail">Choose a token to see both models’ predictions.</p>;
  return (
    <p class="detail">
      <strong>{named(token.text)}</strong>: KL divergence {number(token.kld)}. Probability {percent(Math.exp(token.logprob))} here,{' '}
      {percent(Math.exp(token.reference_logprob))} in the original.{' '}
      {differs(token)
        ? `First choice here ${named(token.top)}, in the original ${named(token.reference_top)}.`
        : `Both have ${named(token.top)} as their first choice.`}
    </p>
  );
}

export function Tokens({ tokens, label }) {
  const id = useId();
  const list = useRef();
  const [active, setActive] = useState(-1);
  const move = (to) => setActive(Math.max(0, Math.min(tokens.length - 1, to)));
  const nextOther = (from, way) => {
    for (let i = from + way; i >= 0 && i < tokens.length; i += way) if (differs(tokens[i])) return i;
    return from;
  };
  const key = (e) => {
    const to = {
      ArrowRight: () => active + 1,
      ArrowLeft: () => active - 1,
      Home: () => 0,
      End: () => tokens.length - 1,
      ArrowDown: () => nextOther(active, 1),
      ArrowUp: () => nextOther(active, -1),
    }[e.key];
    if (!to) return;
    e.preventDefault();
    move(to());
  };
  useEffect(() => {
    if (list.current.contains(document.activeElement)) list.current.children[active]?.scrollIntoView({ block: 'nearest' });
  }, [active]);
  return (
    <>
      <div
        ref={list}
        class="tokens"
        role="listbox"
        aria-label={`${label}. Left and right go through the tokens, up and down to those with another first choice.`}
        aria-activedescendant={active >= 0 ? `${id}-${active}` : undefined}
        tabIndex={0}
        onKeyDown={key}
        onFocus={() => active < 0 && move(0)}
      >
        {tokens.map((token, i) => (
          <span
            key={i}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === active}
            aria-label={`${named(token.text)}, ${number(token.kld)}`}
            class={`${step(token.kld)[1]}${differs(token) ? ' other-top' : ''}`}
            onMouseEnter={() => move(i)}
            onClick={() => move(i)}
          >
            {token.text}
          </span>
        ))}
      </div>
      <Detail token={tokens[active]} />
    </>
  );
}
