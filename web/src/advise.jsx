/** Which level of a model for this machine. */
import { useState } from 'preact/hooks';
import { advice } from './api.js';
import { bytes, number, percent } from './format.js';
import { NumberField, Problem, Select } from './parts.jsx';
import { announce } from './store.js';

const PURPOSES = [
  ['chat', 'Chat'],
  ['code', 'Code'],
  ['math', 'Maths'],
  ['speed', 'Speed'],
];

function loss(level) {
  if (!level.loss) return 'not measured';
  return (
    <>
      {number(level.loss.kld_mean)}
      <small>{level.loss.own ? 'measured on this model' : level.loss.origin}</small>
    </>
  );
}

function Row({ level, recommended }) {
  return (
    <tr class={`${recommended ? 'recommended' : ''} ${level.fits ? '' : 'too-large'}`}>
      <th scope="row">
        {level.level} {recommended && <span class="badge">recommended</span>}
      </th>
      <td>{level.fits ? 'fits' : 'too large'}</td>
      <td>{bytes(level.file_bytes)}</td>
      <td>{number(level.bits_per_weight)}</td>
      <td>{bytes(level.memory_bytes)}</td>
      <td>{number(level.prefill_tokens_per_second)}</td>
      <td>{number(level.decode_tokens_per_second)}</td>
      <td>{loss(level)}</td>
      <td>{level.loss ? percent(level.loss.same_top) : '–'}</td>
    </tr>
  );
}

function Table({ found }) {
  const best = found.levels.find(({ level }) => level === found.recommended);
  return (
    <>
      <p class="verdict">
        {best ? (
          <>
            <strong>{best.level}</strong> is recommended: {bytes(best.file_bytes)} on disk, {bytes(best.memory_bytes)} in memory with a context of{' '}
            {found.context} tokens.
          </>
        ) : (
          'Nothing fits into this memory.'
        )}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Levels, the best first">
        <table>
          <thead>
            <tr>
              <th scope="col">Level</th>
              <th scope="col">Memory</th>
              <th scope="col">File</th>
              <th scope="col">Bits a weight</th>
              <th scope="col">In memory</th>
              <th scope="col">Prompt, tok/s</th>
              <th scope="col">Writing, tok/s</th>
              <th scope="col">KL divergence</th>
              <th scope="col">Same first choice</th>
            </tr>
          </thead>
          <tbody>
            {found.levels.map((level) => (
              <Row key={level.level} level={level} recommended={level === best} />
            ))}
          </tbody>
        </table>
      </div>
      <p class="note">{found.rule}</p>
      <ul class="note">
        {found.notes.map((note) => (
          <li key={note}>{note}</li>
        ))}
      </ul>
    </>
  );
}

export function Advise({ models }) {
  const [wanted, setWanted] = useState({ model: '', purpose: 'chat', context: 4096, memory: 0 });
  const [found, setFound] = useState(null);
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const set = (name) => (to) => setWanted({ ...wanted, [name]: to });
  const model = models.find((m) => m.name === wanted.model) ?? models[0];

  const ask = async (e) => {
    e.preventDefault();
    setBusy(true);
    setProblem('');
    announce('Measuring this machine');
    try {
      const told = await advice({ ...wanted, model: model.name });
      setFound(told);
      announce(`Recommended: ${told.recommended ?? 'nothing fits'}`);
    } catch (error) {
      setProblem(error.message);
    }
    setBusy(false);
  };

  return (
    <div class="advise">
      <p>
        Which levels of a model fit a machine, how fast they run on this one, and what they cost in quality. Speeds are measured for some
        seconds, so they are lower while the server has other work.
      </p>
      <form class="bar" onSubmit={ask}>
        <Select label="Model" value={model?.name} options={models.map((m) => [m.name, m.name])} onChange={set('model')} />
        <Select label="For" value={wanted.purpose} options={PURPOSES} onChange={set('purpose')} />
        <NumberField label="Context, tokens" value={wanted.context} min={1} max={1048576} onChange={set('context')} />
        <NumberField label="Memory, GB (0: what is free)" value={wanted.memory} min={0} max={4096} step={0.5} onChange={set('memory')} />
        <button type="submit" class="primary" disabled={busy || !model}>
          Advise
        </button>
      </form>
      {busy && (
        <p class="waiting">
          <span class="dots" aria-hidden="true" /> Measuring this machine
        </p>
      )}
      {problem && <Problem>{problem}</Problem>}
      {found && !busy && <Table found={found} />}
    </div>
  );
}
