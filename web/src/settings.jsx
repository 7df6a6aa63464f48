/** What an answer is made with. */
import { store } from './store.js';
import { NumberField, TextField } from './parts.jsx';

export const chatSettings = store(
  { model: '', system: '', temperature: 0.7, topP: 0.95, maxTokens: 1024 },
  localStorage,
  'nibble.chat.settings',
);
export const compareSettings = store(
  { models: null, reference: '', system: '', temperature: 0, topP: 1, maxTokens: 256, together: false },
  localStorage,
  'nibble.compare.settings',
);

export const withSystem = (settings, messages) =>
  settings.system.trim() ? [{ role: 'system', content: settings.system }, ...messages] : messages;

export function SettingsFields({ value, onChange }) {
  const set = (name) => (to) => onChange({ ...value, [name]: to });
  return (
    <>
      <TextField label="System prompt" value={value.system} onChange={set('system')} placeholder="How the model should answer" />
      <NumberField label="Temperature" value={value.temperature} min={0} max={2} step={0.05} onChange={set('temperature')} />
      <NumberField label="Top p" value={value.topP} min={0.05} max={1} step={0.05} onChange={set('topP')} />
      <NumberField label="Most tokens" value={value.maxTokens} min={1} max={131072} onChange={set('maxTokens')} />
    </>
  );
}
