#!/usr/bin/env node
// An MCP server that uses every freedom the protocol leaves: unknown members at every level, numbers that do not survive a
// float, nulls, odd Unicode, pages, multi-line SSE data, JSON here and SSE there, event ids with resumption, unknown methods
// and notifications. It speaks both eras, writes all its JSON by hand and reads what it echoes by its text, so that whatever
// stands in front of it can be held to every byte. What it saw (cancellations, notifications) it tells at GET /seen, or
// through its tool `seen`.
//
//   weird_upstream.mjs PORT [--era legacy|modern|both]      Streamable HTTP at http://127.0.0.1:PORT/mcp
//   weird_upstream.mjs --stdio [--era …]                    newline-delimited JSON on stdin and stdout
import http from 'node:http';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { membersOf, rawAt, rawObject } from './rawjson.mjs';

const { values: options, positionals: [port] } = parseArgs({ allowPositionals: true, options: { era: { type: 'string', default: 'both' }, stdio: { type: 'boolean', default: false } } });
const MODERN = '2026-07-28';
const LEGACY = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'];
const META = 'io.modelcontextprotocol/';
const q = JSON.stringify;

const seen = { cancelled: [], finished: [], notifications: [], requests: {}, sessions: 0, deleted: 0, resumed: [] };

// ---- what it offers -------------------------------------------------------------------------------------------------

const ODD = '"x-odd":{"safe+2":9007199254740993,"u64":18446744073709551615,"one":1.0,"hundred":1E+2,"zero":-0.0,"tiny":1e-7,"huge":1e400,"none":null,"list":[null,1.50,[],{}],"escapes":"\\u0041\\/\\u00e9 é","empty":{}}';
const UNICODE = '"line\\u2028one\u2028two\u2029three \\ud83d\\ude00 \u{1F600} \\u0000 \\"quoted\\" \\\\ \\t ß ﷽ \\ud800 lone"';
const INFO = `{"name":"weird","title":"Weird ünïcode","version":"1.0.0-ß","icons":[{"src":"data:image/png;base64,AA==","sizes":["any"],"theme":"dark","x":1}],"websiteUrl":"https://example.com/","x-info":1E+2}`;
const CAPABILITIES = `{"tools":{"listChanged":true,"x-tools":[1.0]},"resources":{"subscribe":true,"listChanged":true},"prompts":{"listChanged":true},"completions":{},"logging":{},"experimental":{"weird":{"n":18446744073709551615}},"x-capability":{"deep":[null,-0.0]}}`;
const INSTRUCTIONS = '"line one\\u2028line two\u2028three"';

const content = (raw, more = '') => `"content":[{"type":"text","text":${q(raw)},"annotations":{"priority":0.10,"audience":["user"],"x-note":null},"_meta":{"x.example/n":1.0},"x-part":[1E+2]}]${more}`;
const fail = (code, message, data, status) => Object.assign(new Error(message), { code, data, status });
const tool = (name, properties = '{}', more = '') => `{"name":${q(name)},"title":"The ${name}","description":"Has \\u2028 in it","inputSchema":{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","properties":${properties},"$defs":{"a":{"$anchor":"here","minimum":1.0}},"x-schema":null},"annotations":{"readOnlyHint":true,"x-hint":9007199254740993},"execution":{"taskSupport":"forbidden","x":1},"icons":[{"src":"https://example.com/i.png","mimeType":"image/png"}],"_meta":{"x.example/m":-0.0},${ODD}${more}}`;

/** What a client sent, by its text, but without what anyone on the way may add or must rename. */
function received(params) {
  const members = membersOf(params);
  const meta = membersOf(members.get('_meta'));
  for (const name of ['progressToken', 'traceparent', 'tracestate', 'baggage']) meta.delete(name);
  if (members.has('_meta')) members.set('_meta', rawObject(meta));
  members.delete('requestState');
  return rawObject(members);
}

/** Asks the client for something: a request of ours in the legacy era, an input_required round in the modern one. */
function asking(method, params, capability) {
  return async call => {
    if (call.era === 'legacy') {
      const reply = await call.ask(method, params);
      return content(reply.get('result') ?? `error ${reply.get('error')}`, `,"structuredContent":{"reply":${reply.get('result') ?? reply.get('error')}}`);
    }
    if (capability && rawAt(call.params, '_meta', `${META}clientCapabilities`, capability) === undefined) {
      throw fail(-32021, `needs ${capability}`, `{"requiredCapabilities":{${q(capability)}:{}},"x-data":1.0}`, 400);
    }
    const answers = rawAt(call.params, 'inputResponses');
    const state = rawAt(call.params, 'requestState');
    if (answers === undefined) {
      return `"resultType":"input_required","inputRequests":{"the \\u2028 key":{"method":${q(method)},"params":${params},"x-request":1.0}},"requestState":"state \\u2028 of ${method} é",${ODD}`;
    }
    if (state === undefined || JSON.parse(state) !== `state \u2028 of ${method} é`) throw fail(-32602, 'this is not the state that was given', state);
    return content(answers, `,"structuredContent":{"answers":${answers}}`);
  };
}

const progress = (call, steps) => {
  const token = rawAt(call.params, '_meta', 'progressToken');
  for (const [value, total] of steps) if (token !== undefined) call.notify('notifications/progress', `{"progressToken":${token},"progress":${value},"total":${total},"message":"at \\u2028 ${value}","x-progress":null}`);
};

const TOOLS = {
  echo_raw: { define: tool('echo_raw', '{"anything":true}'), reply: 'json', run: async call => content(received(call.params), `,"structuredContent":{"echo":${received(call.params)}},${ODD}`) },
  echo_sse: { define: tool('echo_sse', '{"text":{"type":"string","default":"é\\u2028"}}'), reply: 'sse', run: async call => content(received(call.params)) },
  numbers: { define: tool('numbers', '{}', ',"outputSchema":{"type":"object","properties":{"n":{"type":"number","minimum":-0.0}},"x-out":1E+2}'), reply: 'sse', run: async () => `${content('numbers')},"structuredContent":{"n":1.0,${ODD}},"isError":false,"_meta":{"x.example/big":123456789012345678901234567890},${ODD}` },
  lines: { define: tool('lines'), reply: 'lines', run: async () => `"content":[{"type":"text","text":"data on many lines"},\n  {"type":"x-unknown",\r\n   "payload":{"n":1.0}}],\n"x-more":{"a":\n1}` },
  unicode: { define: tool('unicode'), reply: 'json', run: async () => `"content":[{"type":"text","text":${UNICODE}}],"structuredContent":{"text":${UNICODE},"\\u006bey":1,"ключ":"値"}` },
  parts: { define: tool('parts'), reply: 'sse', run: async () => '"content":[{"type":"image","data":"iVBORw0KGgo=","mimeType":"image/png","x":1},{"type":"audio","data":"UklGRg==","mimeType":"audio/wav"},{"type":"resource_link","uri":"weird://one","name":"one","size":18446744073709551615},{"type":"resource","resource":{"uri":"weird://blob","blob":"AAEC","mimeType":"application/octet-stream","x":null}},{"type":"x-new-kind","deep":{"er":[1.0]}}]' },
  nothing: { define: tool('nothing'), reply: 'json', run: async () => '"content":[]' },
  tool_error: { define: tool('tool_error'), reply: 'sse', run: async () => content('it went wrong', ',"isError":true,"x-why":-0.0') },
  rpc_error: { define: tool('rpc_error'), reply: 'sse', run: async () => { throw fail(-31999, 'an error of its own\u2028', `{${ODD}}`); } },
  rpc_error_json: { define: tool('rpc_error_json'), reply: 'json', run: async () => { throw fail(12345678, 'a positive code', 'null'); } },
  progress: { define: tool('progress'), reply: 'sse', run: async call => {
    progress(call, [['0.10', '1.0'], ['5e-1', '1.0']]);
    call.notify('notifications/x-unheard-of', `{"level":1.0,${ODD}}`);
    call.notify('notifications/message', `{"level":"info","logger":"weird","data":{"n":9007199254740993,"none":null},"x-log":1E+2}`);
    progress(call, [['1.0', '1.0']]);
    return content('all steps');
  } },
  ask_sampling: { define: tool('ask_sampling'), reply: 'sse', run: asking('sampling/createMessage', `{"messages":[{"role":"user","content":{"type":"text","text":"é\u2028","x":1.0}}],"maxTokens":1E+2,"temperature":0.10,"metadata":{"n":18446744073709551615},"x-sampling":null}`, 'sampling') },
  ask_elicitation: { define: tool('ask_elicitation'), reply: 'sse', run: asking('elicitation/create', '{"mode":"form","message":"Your \\u2028 name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string","title":"Nàme"},"n":{"type":"integer","minimum":-0}},"required":["name"],"x-schema":1.0}}', 'elicitation') },
  ask_roots: { define: tool('ask_roots'), reply: 'sse', run: asking('roots/list', '{"_meta":{"x.example/r":1.0}}', 'roots') },
  ask_unheard_of: { define: tool('ask_unheard_of'), reply: 'sse', legacyOnly: true, run: asking('x/unheard-of', `{${ODD}}`) },
  ask_ping: { define: tool('ask_ping'), reply: 'sse', legacyOnly: true, run: asking('ping', '{"x-ping":1.0}') },
  big: { define: tool('big'), reply: 'sse', run: async () => content('0123456789abcdef\u2028'.repeat(20_000)) },
  headers: { define: tool('headers', '{"region":{"type":"string","x-mcp-header":"Region","default":"zürich \\u2028"},"count":{"type":"integer","x-mcp-header":"Count","default":42},"plain":{"type":"boolean"}}'), reply: 'json', run: async call => content(received(call.params)) },
  change: { define: tool('change', '{"uri":{"type":"string","default":"weird://one"}}'), reply: 'json', run: async call => {
    for (const kind of ['tools', 'prompts', 'resources']) call.broadcast(`${kind}ListChanged`, `notifications/${kind}/list_changed`, '"x-change":1.0');
    call.broadcast('updated', 'notifications/resources/updated', `"uri":${rawAt(call.params, 'arguments', 'uri') ?? '"weird://one"'},"x-updated":-0.0`);
    return content('told');
  } },
  hang_up: { define: tool('hang_up'), reply: 'json', run: async call => { call.hangUp(); return content('hung up'); } },
  drop: { define: tool('drop'), reply: 'sse', run: async call => { call.notify('notifications/message', '{"level":"info","data":"before the break","n":1.0}'); await call.drop(); call.notify('notifications/message', '{"level":"info","data":"after the break","n":1.0}'); return content('whole after all'); } },
  slow: { define: tool('slow', '{"key":{"type":"string"},"ms":{"type":"integer"}}'), reply: 'sse', run: async call => {
    const { key, ms = 10_000 } = JSON.parse(rawAt(call.params, 'arguments') ?? '{}');
    for (let spent = 0; spent < ms && !call.cancelled; spent += 50) {
      if (spent % 500 === 0) progress(call, [[`${spent / 50}.0`, '200']]);
      await Promise.race([sleep(Math.min(50, ms)), call.whenCancelled]);
    }
    if (call.cancelled) seen.cancelled.push({ key, how: call.cancelled.how, reason: call.cancelled.reason });
    else seen.finished.push(key);
    return content('slept');
  } },
  seen: { define: tool('seen'), reply: 'json', run: async () => content(q(seen)) },
};

const RESOURCES = [
  `{"uri":"weird://one","name":"one","title":"Öne","mimeType":"text/plain","size":9007199254740993,"annotations":{"lastModified":"2026-01-01T00:00:00Z","priority":1.0,"x":null},"x-resource":1E+2}`,
  `{"uri":"weird://sp%20ace/ünï\u2028?q=a+b#frag","name":"odd uri","_meta":{"x.example/u":-0.0}}`,
  `{"uri":"weird://blob","name":"blob","mimeType":"application/octet-stream",${ODD}}`,
  `{"uri":"weird://ask","name":"asks first in the modern era"}`,
  `{"uri":"weird://none","name":"nulls","description":null,"size":null}`,
];
const TEMPLATES = ['{"uriTemplate":"weird://t/{id}{?q}","name":"t","title":"T\\u2028","x-template":1.0}', '{"uriTemplate":"weird://other/{+path}","name":"other","annotations":null}', '{"uriTemplate":"weird://third/{id}","name":"third"}'];
const PROMPTS = [
  `{"name":"plain","title":"Plàin","icons":[],${ODD}}`,
  '{"name":"with_args","description":"\\u2028","arguments":[{"name":"first","required":true,"x-argument":1.0},{"name":"second","description":null}],"_meta":{"x":1E+2}}',
  '{"name":"ask","arguments":[]}',
];

async function readResource(call) {
  const raw = rawAt(call.params, 'uri'), uri = JSON.parse(raw ?? 'null');
  if (uri === 'weird://blob') return `"contents":[{"uri":${raw},"blob":"AAECAwQF/w==","mimeType":"application/octet-stream","x-contents":1.0}],${ODD}`;
  if (uri === 'weird://none') return `"contents":[],"x-none":null`;
  if (uri === 'weird://ask' && call.era === 'modern') return (await asking('roots/list', '{}', 'roots')(call)).replace('"content":', '"contents":');
  if (typeof uri !== 'string' || !uri.startsWith('weird://') || uri.includes('missing')) throw fail(call.era === 'modern' ? -32602 : -32002, 'no such resource', `{"uri":${raw},"x-data":1.0}`);
  return `"contents":[{"uri":${raw},"mimeType":"text/plain","text":${UNICODE},"_meta":{"x.example/c":9007199254740993},"x-contents":null},{"uri":"weird://extra","text":""}]`;
}

async function getPrompt(call) {
  const name = JSON.parse(rawAt(call.params, 'name') ?? 'null');
  if (!['plain', 'with_args', 'ask'].includes(name)) throw fail(-32602, 'no such prompt', '{"x-data":1.0}');
  if (name === 'ask' && call.era === 'modern') return (await asking('elicitation/create', '{"mode":"form","message":"?","requestedSchema":{"type":"object","properties":{}}}', 'elicitation')(call)).replace('"content":', '"messages":[],"x-content":');
  return `"description":null,"messages":[{"role":"user","content":{"type":"text","text":${q(received(call.params))},"x":1.0},"x-message":1E+2},{"role":"assistant","content":{"type":"x-unknown","n":-0.0}}]`;
}

function page(call, member, all, size) {
  const cursor = rawAt(call.params, 'cursor');
  const at = cursor === undefined ? 0 : Number((JSON.parse(cursor) ?? '').replace?.('page \u2028 ', '') || NaN);
  if (!(at >= 0 && at < Math.max(1, all.length))) throw fail(-32602, 'no such cursor', cursor);
  const next = at + size < all.length ? `,"nextCursor":"page \\u2028 ${at + size}"` : '';
  return `${q(member)}:[${all.slice(at, at + size).join(',')}]${next},"x-page":1.0,"_meta":{"x.example/at":${at}.0}`;
}

const subscribed = call => {
  const uri = rawAt(call.params, 'uri');
  setTimeout(() => call.broadcast('updated', 'notifications/resources/updated', `"uri":${uri},"x-updated":1E+2`), 20);
  return '"x-subscribed":1.0';
};
const toolsIn = era => Object.entries(TOOLS).filter(([, t]) => era === 'legacy' || !t.legacyOnly);

// method → [how to reply, the members of the result]; a third entry says in which era it exists
const METHODS = {
  'server/discover': ['json', async () => `"supportedVersions":["${MODERN}"],"capabilities":${CAPABILITIES},"instructions":${INSTRUCTIONS},"ttlMs":1E+2,"cacheScope":"public","x-discover":18446744073709551615`, 'modern'],
  ping: ['json', async () => '"x-pong":1.0', 'legacy'],
  'logging/setLevel': ['json', async call => { const level = rawAt(call.params, 'level'); if (!/^"(debug|info|notice|warning|error|critical|alert|emergency)"$/.test(level)) throw fail(-32602, 'no such level', level); return `"x-level":${level}`; }, 'legacy'],
  'tools/list': ['json', async call => page(call, 'tools', toolsIn(call.era).map(([, t]) => t.define), 3)],
  'resources/list': ['sse', async call => page(call, 'resources', RESOURCES, 2)],
  'resources/templates/list': ['lines', async call => page(call, 'resourceTemplates', TEMPLATES, 2)],
  'prompts/list': ['json', async call => page(call, 'prompts', PROMPTS, 2)],
  'resources/read': ['json', readResource],
  'prompts/get': ['sse', getPrompt],
  'resources/subscribe': ['json', async call => subscribed(call), 'legacy'],
  'resources/unsubscribe': ['json', async () => '"x-unsubscribed":null', 'legacy'],
  'completion/complete': ['json', async call => `"completion":{"values":["é\\u2028",${q(received(call.params))}],"total":1E+2,"hasMore":false,"x-completion":null}`],
  'tools/call': [null, async call => {
    const name = JSON.parse(rawAt(call.params, 'name') ?? 'null');
    const found = toolsIn(call.era).find(([known]) => known === name);
    if (!found) throw fail(-32602, 'no such tool', `{"name":${q(name)},"x-data":1.0}`);
    return found[1].run(call);
  }],
};
const replyStyle = (method, params) => (method === 'tools/call' ? TOOLS[JSON.parse(rawAt(params, 'name') ?? 'null')]?.reply : METHODS[method]?.[0]) ?? 'json';

/** Answers one request; gives the text of the reply and its HTTP status. */
async function answer(call) {
  seen.requests[call.method] = (seen.requests[call.method] ?? 0) + 1;
  try {
    const known = METHODS[call.method];
    let members;
    if (known && (!known[2] || known[2] === call.era)) members = await known[1](call);
    else if (call.method.startsWith('x/')) members = `"x-echo":${call.params ?? 'null'},${ODD}`;
    else throw fail(-32601, 'no such method', `{"method":${q(call.method)}}`, call.era === 'modern' ? 404 : 200);
    if (call.era === 'modern') {
      if (!members.startsWith('"resultType"')) members = `"resultType":"complete",${members}`;
      if (/\/list$|resources\/read/.test(call.method)) members += ',"ttlMs":0,"cacheScope":"private"';
      if (!members.includes(',"_meta":{')) members += `,"_meta":{"${META}serverInfo":${INFO}}`;
    }
    return { status: 200, text: `{"jsonrpc":"2.0","id":${call.id},"result":{${members}}}` };
  } catch (error) {
    if (error.code === undefined) console.error(error);
    const data = error.data === undefined ? '' : `,"data":${error.data}`;
    return { status: error.status ?? 200, text: `{"jsonrpc":"2.0","id":${call.id},"error":{"code":${error.code ?? -32603},"message":${q(error.message)}${data},"x-error":1.0}}` };
  }
}

function newCall(era, id, method, params, channel) {
  const call = { era, id, method, params, cancelled: null, ...channel };
  call.whenCancelled = new Promise(resolve => { call.cancel = (how, reason) => { if (!call.cancelled) { call.cancelled = { how, reason }; resolve(); } }; });
  call.notify = (name, raw) => call.send(`{"jsonrpc":"2.0","method":${q(name)},"params":${raw}}`);
  return call;
}

/** Requests of ours that wait for the client's reply, by the id we gave. */
const waiting = new Map();
let lastAsked = 0;
const ask = send => (method, params) => new Promise(resolve => {
  const id = `ask \u2028 ${++lastAsked}`;
  waiting.set(id, resolve);
  send(`{"jsonrpc":"2.0","id":${q(id)},"method":${q(method)},"params":${params}}`);
});

function initialized(params) {
  const wanted = JSON.parse(rawAt(params, 'protocolVersion') ?? 'null');
  return `{"protocolVersion":${q(LEGACY.includes(wanted) ? wanted : LEGACY[0])},"capabilities":${CAPABILITIES},"serverInfo":${INFO},"instructions":${INSTRUCTIONS},"_meta":{"x.example/i":1.0},"x-initialize":9007199254740993}`;
}

/** Notifications and replies, which have no answer. `calls` are the requests in progress of the same client, by raw id. */
function takeUnanswered(message, calls) {
  if (message.has('method')) {
    const method = JSON.parse(message.get('method')), params = message.get('params');
    seen.notifications.push({ method, params: params === undefined ? undefined : received(params) });
    if (method === 'notifications/cancelled') {
      const reason = rawAt(params, 'reason');
      calls.get(rawAt(params, 'requestId'))?.cancel('notification', reason && JSON.parse(reason));
    }
  } else if (message.has('id')) {
    const id = JSON.parse(message.get('id'));
    waiting.get(id)?.(message);
    waiting.delete(id);
  }
}

// ---- Streamable HTTP ------------------------------------------------------------------------------------------------

const sessions = new Map(); // id → { version, calls, streams: id → Stream, standing: Stream }
const listeners = new Set(); // modern subscriptions/listen: { id, filter, stream }
let lastStream = 0;

/** One SSE stream. Legacy ones number and keep their events, so that a client may come back with Last-Event-ID. */
class Stream {
  constructor(kept) { this.id = `${++lastStream}`; this.kept = kept; this.events = []; this.response = null; this.ended = false; }
  attach(response, after = 0) {
    this.response = response;
    response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no', ...this.headers });
    response.write(': a comment\n\n');
    for (const event of this.events.slice(after)) response.write(event);
    if (this.ended) response.end();
  }
  write(text, style = 'sse') {
    const id = this.kept ? `id: ${this.id}.${this.events.length + 1}\n` : '';
    const data = style === 'lines' ? text.split(/\r\n|\n/).map(line => `data: ${line}\n`).join('') : `data:${this.events.length % 2 ? ' ' : ''}${text}\n`;
    const event = `${style === 'lines' ? 'event: message\n' : ''}${id}${data}\n`;
    this.events.push(event);
    if (this.response && !this.response.destroyed) this.response.write(event);
  }
  prime() { if (this.kept) { const event = `id: ${this.id}.${this.events.length + 1}\nretry: 150\ndata: \n\n`; this.events.push(event); this.response.write(event); } }
  end() { this.ended = true; this.response?.end(); }
}

const sendJson = (response, status, text, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers }).end(text);
const refuse = (response, status, id, code, message, data) => sendJson(response, status, `{"jsonrpc":"2.0","id":${id ?? 'null'},"error":{"code":${code},"message":${q(message)}${data ? `,"data":${data}` : ''}}}`);
const plainHeader = value => { const coded = /^=\?base64\?(.*)\?=$/.exec(value ?? ''); return coded ? Buffer.from(coded[1], 'base64').toString('utf8') : value; };

/** What the modern era asks of the headers of a request; gives [status, code, message, data] of the refusal, or null. */
function headerFault(request, method, params) {
  const said = request.headers['mcp-protocol-version'], meant = rawAt(params, '_meta', `${META}protocolVersion`);
  if (meant === undefined || rawAt(params, '_meta', `${META}clientCapabilities`) === undefined) return [400, -32602, '_meta lacks protocolVersion or clientCapabilities'];
  if (q(said) !== meant) return [400, -32020, `version header ${said} is not ${meant}`];
  if (said !== MODERN) return [400, -32022, 'unsupported protocol version', `{"supported":["${MODERN}"],"requested":${meant}}`];
  if (request.headers['mcp-method'] !== method) return [400, -32020, `Mcp-Method is ${request.headers['mcp-method']}, not ${method}`];
  const name = { 'tools/call': 'name', 'prompts/get': 'name', 'resources/read': 'uri' }[method];
  if (name && q(plainHeader(request.headers['mcp-name'])) !== q(JSON.parse(rawAt(params, name) ?? 'null'))) return [400, -32020, `Mcp-Name is ${plainHeader(request.headers['mcp-name'])}`];
  if (method === 'tools/call' && rawAt(params, 'name') === '"headers"') {
    for (const param of ['region', 'count']) {
      const raw = rawAt(params, 'arguments', param), header = plainHeader(request.headers[`mcp-param-${param}`]);
      if ((raw === undefined ? undefined : String(JSON.parse(raw))) !== header) return [400, -32020, `Mcp-Param-${param} is ${header}`];
    }
  }
  return null;
}

async function post(request, response) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks).toString('utf8');
  let parsed;
  try { parsed = JSON.parse(body); } catch { return refuse(response, 400, null, -32700, 'not JSON'); }
  if (Array.isArray(parsed) || parsed === null || typeof parsed !== 'object') return refuse(response, 400, null, -32600, 'one message, please');
  const message = membersOf(body), id = message.get('id'), params = message.get('params');
  const method = message.has('method') ? JSON.parse(message.get('method')) : undefined;
  const modern = rawAt(params, '_meta', `${META}protocolVersion`) !== undefined || (request.headers['mcp-protocol-version'] ?? '') >= '2026';

  if (modern ? options.era === 'legacy' : options.era === 'modern') {
    return refuse(response, 400, id, modern ? -32000 : -32022, 'another era', modern ? undefined : `{"supported":["${MODERN}"]}`);
  }
  if (modern) return postModern(request, response, id, method, params);
  if (method === 'initialize') {
    const session = { version: null, calls: new Map(), streams: new Map(), standing: new Stream(true), key: `s-${++seen.sessions}-${Math.random().toString(36).slice(2)}` };
    session.streams.set(session.standing.id, session.standing);
    sessions.set(session.key, session);
    return sendJson(response, 200, `{"jsonrpc":"2.0","id":${id},"result":${initialized(params)}}`, { 'mcp-session-id': session.key });
  }
  const session = sessionOf(request, response, id);
  if (!session) return;
  if (id === undefined || method === undefined) { takeUnanswered(message, session.calls); return response.writeHead(202).end(); }

  const style = replyStyle(method, params);
  const stream = new Stream(true);
  const open = () => { session.streams.set(stream.id, stream); stream.attach(response); if (session.versionSent >= '2025-11-25') stream.prime(); };
  if (style !== 'json') open();
  const send = text => stream.write(text);
  const call = newCall('legacy', id, method, params, {
    send, ask: ask(send),
    broadcast: (_kind, name, members) => session.standing.write(`{"jsonrpc":"2.0","method":${q(name)},"params":{${members}}}`),
    hangUp: () => {},
    drop: async () => { stream.response.end(); stream.response = null; await sleep(100); },
  });
  session.calls.set(id, call);
  const reply = await answer(call);
  session.calls.delete(id);
  if (style === 'json') return sendJson(response, reply.status, reply.text);
  if (call.cancelled) return stream.end();
  stream.write(reply.text, style);
  stream.end();
}

async function postModern(request, response, id, method, params) {
  if (id === undefined || method === undefined) { takeUnanswered(new Map([['method', q(method ?? '')], ['params', params]]), new Map()); return response.writeHead(202).end(); }
  const fault = headerFault(request, method, params);
  if (fault) return refuse(response, fault[0], id, ...fault.slice(1));
  const stream = new Stream(false);
  if (method === 'subscriptions/listen') return listen(response, stream, id, params);
  const style = replyStyle(method, params);
  const call = newCall('modern', id, method, params, {
    send: text => stream.write(text), broadcast: tellListeners, hangUp: hangUpListeners, drop: async () => {},
  });
  response.on('close', () => { if (!response.writableFinished) call.cancel('closed'); });
  if (style !== 'json' && !/^"(no_such|rpc_error_json)/.test(rawAt(params, 'name') ?? '')) {
    // The status is not known before the answer is, unless something is sent first: begin the stream with the first event.
    const begin = stream.write.bind(stream);
    stream.write = (...event) => { if (!stream.response) stream.attach(response); begin(...event); };
  }
  const reply = await answer(call);
  if (call.cancelled) return;
  if (style === 'json' || (reply.status !== 200 && !stream.response)) return sendJson(response, reply.status, reply.text);
  stream.write(reply.text, style);
  stream.end();
}

function listen(response, stream, id, params) {
  const filter = rawAt(params, 'notifications') ?? '{}';
  const listener = { id, stream, filter: JSON.parse(filter) };
  stream.attach(response);
  stream.write(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"${META}subscriptionId":${id},"x.example/a":1.0},"notifications":${filter},"x-acknowledged":null}}`);
  listeners.add(listener);
  response.on('close', () => listeners.delete(listener));
}
function tellListeners(kind, name, members) {
  for (const { id, stream, filter } of listeners) {
    const wanted = kind === 'updated' ? (filter.resourceSubscriptions ?? []).includes(JSON.parse(rawAt(`{${members}}`, 'uri'))) : filter[kind];
    if (wanted) stream.write(`{"jsonrpc":"2.0","method":${q(name)},"params":{"_meta":{"${META}subscriptionId":${id}},${members}}}`);
  }
}
function hangUpListeners() {
  for (const { id, stream } of listeners) {
    stream.write(`{"jsonrpc":"2.0","id":${id},"result":{"resultType":"complete","_meta":{"${META}subscriptionId":${id}},"x-bye":1.0}}`);
    stream.end();
  }
}

function sessionOf(request, response, id) {
  const key = request.headers['mcp-session-id'];
  const session = sessions.get(key);
  if (!session) refuse(response, key === undefined ? 400 : 404, id, key === undefined ? -32000 : -32001, key === undefined ? 'no session id' : 'no such session');
  else session.versionSent = request.headers['mcp-protocol-version'] ?? '2025-03-26';
  return session;
}

function get(request, response) {
  if (options.era === 'modern') return response.writeHead(405).end();
  const session = sessionOf(request, response);
  if (!session) return;
  const last = request.headers['last-event-id'];
  if (last === undefined) { session.standing.attach(response, session.standing.events.length); response.on('close', () => { if (session.standing.response === response) session.standing.response = null; }); return; }
  const [streamId, event] = last.split('.');
  seen.resumed.push(last.replace(/^\d+/, '#'));
  const stream = session.streams.get(streamId);
  if (!stream) return refuse(response, 404, null, -32001, 'no such event');
  stream.attach(response, Number(event));
}

function remove(request, response) {
  const session = sessionOf(request, response);
  if (!session) return;
  sessions.delete(request.headers['mcp-session-id']);
  seen.deleted++;
  session.standing.end();
  response.writeHead(204).end();
}

function serveHttp() {
  const server = http.createServer((request, response) => {
    const path = request.url.split('?')[0];
    if (path === '/seen') return sendJson(response, 200, q(seen));
    if (path !== '/mcp') return response.writeHead(404).end();
    const handler = { POST: post, GET: get, DELETE: remove }[request.method];
    if (!handler) return response.writeHead(405, { allow: 'GET, POST, DELETE' }).end();
    Promise.resolve(handler(request, response)).catch(error => { console.error(error); response.destroy(); });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(Number(port), '127.0.0.1', () => console.log(`weird upstream on http://127.0.0.1:${port}/mcp`));
}

// ---- stdio ----------------------------------------------------------------------------------------------------------

/** The lines of a stream of UTF-8 text. Not node:readline, which also breaks lines at U+2028 and U+2029: JSON strings may hold those. */
async function* linesOf(stream) {
  let rest = '';
  for await (const piece of stream.setEncoding('utf8')) {
    const lines = (rest + piece).split('\n');
    rest = lines.pop();
    yield* lines;
  }
}

async function serveStdio() {
  const calls = new Map(), subscriptions = new Map();
  const send = text => process.stdout.write(`${text.replace(/[\r\n]+/g, ' ')}\n`);
  const broadcast = (kind, name, members) => {
    if (!subscriptions.size) return send(`{"jsonrpc":"2.0","method":${q(name)},"params":{${members}}}`);
    for (const [id, filter] of subscriptions) {
      const wanted = kind === 'updated' ? (filter.resourceSubscriptions ?? []).includes(JSON.parse(rawAt(`{${members}}`, 'uri'))) : filter[kind];
      if (wanted) send(`{"jsonrpc":"2.0","method":${q(name)},"params":{"_meta":{"${META}subscriptionId":${id}},${members}}}`);
    }
  };
  const hangUp = () => { for (const id of subscriptions.keys()) send(`{"jsonrpc":"2.0","id":${id},"result":{"resultType":"complete","_meta":{"${META}subscriptionId":${id}},"x-bye":1.0}}`); subscriptions.clear(); };
  const take = async line => {
    if (!line.trim()) return;
    try { JSON.parse(line); } catch { return send('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}'); }
    const message = membersOf(line), id = message.get('id'), params = message.get('params');
    if (id === undefined || !message.has('method')) {
      subscriptions.delete(rawAt(params, 'requestId'));
      return takeUnanswered(message, calls);
    }
    const method = JSON.parse(message.get('method'));
    const modern = rawAt(params, '_meta', `${META}protocolVersion`) !== undefined;
    if (modern ? options.era === 'legacy' : options.era === 'modern') return send(`{"jsonrpc":"2.0","id":${id},"error":{"code":${modern ? -32601 : -32022},"message":"another era"${modern ? '' : `,"data":{"supported":["${MODERN}"]}`}}}`);
    if (modern && JSON.parse(rawAt(params, '_meta', `${META}protocolVersion`)) !== MODERN) return send(`{"jsonrpc":"2.0","id":${id},"error":{"code":-32022,"message":"unsupported protocol version","data":{"supported":["${MODERN}"],"requested":${rawAt(params, '_meta', `${META}protocolVersion`)}}}}`);
    if (!modern && method === 'initialize') return send(`{"jsonrpc":"2.0","id":${id},"result":${initialized(params)}}`);
    if (modern && method === 'subscriptions/listen') {
      const filter = rawAt(params, 'notifications') ?? '{}';
      subscriptions.set(id, JSON.parse(filter));
      return send(`{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"${META}subscriptionId":${id},"x.example/a":1.0},"notifications":${filter},"x-acknowledged":null}}`);
    }
    const call = newCall(modern ? 'modern' : 'legacy', id, method, params, { send, ask: ask(send), broadcast, hangUp, drop: async () => {} });
    calls.set(id, call);
    const reply = await answer(call);
    calls.delete(id);
    if (!call.cancelled) send(reply.text);
  };
  for await (const line of linesOf(process.stdin)) void take(line);
  process.exit(0);
}

if (options.stdio) await serveStdio();
else if (Number(port) > 0) serveHttp();
else { console.error('usage: weird_upstream.mjs PORT | --stdio  [--era legacy|modern|both]'); process.exit(2); }
