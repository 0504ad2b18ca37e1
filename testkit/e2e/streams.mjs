// What neither the suite nor the oracle can see: that a cancellation arrives at the upstream, that a broken stream can be taken up
// again, that a notification of the client's gets through. The upstream is weird_upstream.mjs, which tells what it saw.
import { setTimeout as sleep } from 'node:timers/promises';

const MODERN = '2026-07-28';
let lastId = 0;

/** A bare client of one endpoint, of one era. */
class Wire {
  constructor(url, headers, era) { Object.assign(this, { url, headers, era, session: {} }); }

  async open() {
    if (this.era === 'modern') return this;
    const response = await this.post({ method: 'initialize', id: ++lastId, params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'streams', version: '1' } } });
    this.session = { 'mcp-session-id': response.headers.get('mcp-session-id'), 'mcp-protocol-version': '2025-11-25' };
    if (!response.ok) throw new Error(`initialize: ${response.status} ${await response.text()}`);
    await response.text();
    await (await this.post({ method: 'notifications/initialized' })).text();
    return this;
  }

  post(message, signal) {
    const own = this.era === 'modern' ? { 'mcp-protocol-version': MODERN, 'mcp-method': message.method, ...(message.params?.name ? { 'mcp-name': message.params.name } : {}) } : this.session;
    const meta = this.era === 'modern' ? { 'io.modelcontextprotocol/protocolVersion': MODERN, 'io.modelcontextprotocol/clientCapabilities': {}, 'io.modelcontextprotocol/clientInfo': { name: 'streams', version: '1' } } : {};
    const params = { ...message.params, _meta: { ...meta, ...message.params?._meta } };
    return fetch(this.url, { method: 'POST', signal, headers: { accept: 'application/json, text/event-stream', 'content-type': 'application/json', ...own, ...this.headers }, body: JSON.stringify({ jsonrpc: '2.0', ...message, params }) });
  }

  async call(name, args, { id = ++lastId, token, signal } = {}) {
    return this.post({ id, method: 'tools/call', params: { name, arguments: args, ...(token ? { _meta: { progressToken: token } } : {}) } }, signal);
  }

  async close() {
    if (this.era === 'legacy') await (await fetch(this.url, { method: 'DELETE', headers: { ...this.session, ...this.headers } })).text();
  }
}

/** The messages of a response as they arrive, each with the id of its event. */
async function* messages(response) {
  if (!response.ok) throw new Error(`${response.status} ${(await response.text()).slice(0, 200)}`);
  if (!(response.headers.get('content-type') ?? '').includes('event-stream')) { yield { message: JSON.parse(await response.text()) }; return; }
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body) {
    rest += decoder.decode(chunk, { stream: true });
    for (let cut; (cut = /\r?\n\r?\n/.exec(rest));) {
      const lines = rest.slice(0, cut.index).split(/\r?\n/);
      rest = rest.slice(cut.index + cut[0].length);
      const data = lines.filter(l => l.startsWith('data:')).map(l => l.slice(5).replace(/^ /, '')).join('\n');
      const eventId = lines.find(l => l.startsWith('id:'))?.slice(3).trim();
      if (data || eventId) yield { message: data ? JSON.parse(data) : null, eventId };
    }
  }
}
const replyOf = async response => { for await (const { message } of messages(response)) if (message && ('result' in message || 'error' in message)) return message; };
/** What the upstream saw, told by its own tool; works whatever carries the messages. */
const seenThrough = async wire => JSON.parse((await replyOf(await wire.call('seen', {}))).result.content[0].text);

async function eventually(what, seconds = 5) {
  for (const end = Date.now() + seconds * 1000; ; await sleep(50)) {
    const found = await what();
    if (found || Date.now() > end) return found;
  }
}

/** A call that is given up must end at the upstream too: by a notification in the legacy era, by closing the stream in the modern. */
export async function cancellation(url, headers, era) {
  const wire = await new Wire(url, headers, era).open();
  const key = `cancel-${era}-${Date.now()}-${++lastId}`, id = `call-${++lastId}`;
  const giveUp = new AbortController();
  const response = await wire.call('slow', { key, ms: 8000 }, { id, token: `token-${key}`, signal: giveUp.signal });
  const stream = messages(response);
  await stream.next(); // the upstream has begun, and told its progress
  if (era === 'legacy') await (await wire.post({ method: 'notifications/cancelled', params: { requestId: id, reason: 'enough of this' } })).text();
  else giveUp.abort();
  const other = await new Wire(url, headers, era).open();
  const record = await eventually(async () => (await seenThrough(other)).cancelled.find(one => one.key === key));
  giveUp.abort();
  await stream.return?.().catch(() => {});
  await wire.close();
  await other.close();
  return { ok: !!record, details: record ? [] : ['the upstream never heard of it'], note: record && `${record.how}${record.reason ? `, "${record.reason}"` : ''}` };
}

/** A client of a legacy stream that loses its connection comes back with Last-Event-ID and misses nothing, and hears nothing twice. */
export async function resumption(url, headers) {
  const wire = await new Wire(url, headers, 'legacy').open();
  const key = `resume-${Date.now()}-${++lastId}`, id = ++lastId, lost = new AbortController();
  const response = await wire.call('slow', { key, ms: 1600 }, { id, token: key, signal: lost.signal });
  const heard = [];
  let lastEvent;
  for await (const { message, eventId } of messages(response)) {
    lastEvent = eventId ?? lastEvent;
    if (message) { heard.push(message); break; }
  }
  lost.abort();
  if (!lastEvent) return { ok: false, details: ['the events carried no ids'] };
  await sleep(700);
  const resumed = await fetch(url, { headers: { accept: 'text/event-stream', 'last-event-id': lastEvent, ...wire.session, ...headers }, signal: AbortSignal.timeout(8000) });
  for await (const { message } of messages(resumed)) {
    if (message) heard.push(message);
    if (message?.id === id) break;
  }
  await wire.close();
  const steps = heard.filter(m => m.method === 'notifications/progress').map(m => m.params.progress);
  const ok = heard.at(-1)?.id === id && heard.at(-1).result !== undefined && String(steps) === '0,10,20,30';
  return { ok, details: ok ? [] : [`heard ${JSON.stringify(heard).slice(0, 600)}`], note: `${heard.length} messages over two connections` };
}

/** A notification nobody knows goes through with its params. */
export async function notification(url, headers) {
  const wire = await new Wire(url, headers, 'legacy').open();
  const mark = `mark-${Date.now()}-${++lastId}`;
  const response = await wire.post({ method: 'notifications/x-unheard-of', params: { mark, n: 1 } });
  await response.text();
  const record = await eventually(async () => (await seenThrough(wire)).notifications.find(one => one.method === 'notifications/x-unheard-of' && one.params?.includes(mark)));
  await wire.close();
  return { ok: response.status === 202 && !!record, details: record ? [] : [`status ${response.status}; the upstream did not get it`] };
}
