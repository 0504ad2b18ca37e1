#!/usr/bin/env node
// The same tour as py_client.py, with the official TypeScript SDKs: @modelcontextprotocol/client (both eras), and with --v1
// @modelcontextprotocol/sdk, the legacy-only one that most desktop programs embed. Prints a line per stop and exits 0 only if
// none failed. TARGET and the options are those of py_client.py; what to call comes from known.json.
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';

const { values: options, positionals: [target] } = parseArgs({
  allowPositionals: true,
  options: {
    era: { type: 'string', default: 'auto' }, // legacy, auto, 2026-07-28, or an older version to offer
    prefix: { type: 'string', default: '' }, // put before tool and prompt names, as at an aggregated endpoint
    header: { type: 'string', multiple: true, default: [] }, // 'Name: value'
    'upstream-era': { type: 'string' }, // how the server itself asks: legacy or modern
    require: { type: 'string', default: '' }, // stops that may not be skipped
    excuse: { type: 'string', default: '' }, // stops whose failure counts as skipped
    v1: { type: 'boolean', default: false },
  },
});
const KNOWN = JSON.parse(readFileSync(new URL('./known.json', import.meta.url), 'utf8'));
const headers = Object.fromEntries(options.header.map(h => [h.slice(0, h.indexOf(':')).trim(), h.slice(h.indexOf(':') + 1).trim()]));
const fill = { $DIR: process.env.TOUR_DIR ?? '/nonexistent', $REPO: process.env.TOUR_REPO ?? '/nonexistent', $ID: `tour-${randomBytes(5).toString('hex')}` };
const filled = value => JSON.parse(JSON.stringify(value ?? '').replace(/\$(DIR|REPO|ID)/g, name => fill[name]));
const older = /^202[45]-/.test(options.era) ? options.era : null;
const prefix = options.prefix;

const stops = [], asked = [], notifications = [];
const stop = (name, ok, seen = '') => {
  if (ok === false && options.excuse.split(',').includes(name)) ok = null;
  stops.push([name, ok]);
  console.log(`${ok === null ? 'SKIP' : ok ? 'PASS' : 'FAIL'} ${name}: ${(typeof seen === 'string' ? seen : JSON.stringify(seen)).slice(0, 200).replaceAll('\n', '\\n')}`);
};

const answers = {
  'elicitation/create': async ({ params }) => {
    asked.push('elicitation');
    const content = {};
    for (const [name, schema] of Object.entries(params.requestedSchema?.properties ?? {})) {
      if (schema.default !== undefined) content[name] = schema.default;
      else if (schema.enum) content[name] = schema.enum[0];
      else if (schema.type === 'string' && !schema.format && !schema.oneOf) content[name] = 'ts';
      else if (schema.type === 'boolean') content[name] = true;
      else if (/number|integer/.test(schema.type)) content[name] = schema.minimum ?? 1;
    }
    return params.mode === 'url' ? { action: 'accept' } : { action: 'accept', content };
  },
  'sampling/createMessage': async () => {
    asked.push('sampling');
    return { role: 'assistant', model: 'tour-model', content: { type: 'text', text: 'sampled by the tour' } };
  },
  'roots/list': async () => {
    asked.push('roots');
    return { roots: [{ uri: 'file:///tmp/tour-root', name: 'tour-root' }] };
  },
};
const heard = ['notifications/resources/updated', 'notifications/tools/list_changed', 'notifications/message'];
const about = { name: 'tour', version: '1.0.0' };
const capabilities = { sampling: {}, elicitation: { form: {}, url: {} }, roots: { listChanged: true } };

async function makeClient() {
  if (!options.v1) {
    const { Client } = await import('@modelcontextprotocol/client');
    const mode = options.era === 'auto' ? 'auto' : options.era === 'legacy' || older ? 'legacy' : { pin: options.era };
    const client = new Client(about, { capabilities, versionNegotiation: { mode } });
    for (const [method, answer] of Object.entries(answers)) client.setRequestHandler(method, answer);
    for (const method of heard) client.setNotificationHandler(method, async () => { notifications.push(method); });
    return client;
  }
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const types = await import('@modelcontextprotocol/sdk/types.js');
  const client = new Client(about, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, answers['elicitation/create']);
  client.setRequestHandler(types.CreateMessageRequestSchema, answers['sampling/createMessage']);
  client.setRequestHandler(types.ListRootsRequestSchema, answers['roots/list']);
  const schemas = [types.ResourceUpdatedNotificationSchema, types.ToolListChangedNotificationSchema, types.LoggingMessageNotificationSchema];
  schemas.forEach((schema, i) => client.setNotificationHandler(schema, async () => { notifications.push(heard[i]); }));
  return client;
}

async function makeTransport() {
  const from = options.v1
    ? { http: '@modelcontextprotocol/sdk/client/streamableHttp.js', sse: '@modelcontextprotocol/sdk/client/sse.js', stdio: '@modelcontextprotocol/sdk/client/stdio.js' }
    : { http: '@modelcontextprotocol/client', sse: '@modelcontextprotocol/client', stdio: '@modelcontextprotocol/client/stdio' };
  if (target.startsWith('stdio:')) {
    const [command, ...args] = target.slice(6).split(' ');
    return new (await import(from.stdio)).StdioClientTransport({ command, args, env: process.env, stderr: 'ignore' });
  }
  if (target.startsWith('sse:')) return new (await import(from.sse)).SSEClientTransport(new URL(target.slice(4)), { requestInit: { headers } });
  return new (await import(from.http)).StreamableHTTPClientTransport(new URL(target), { requestInit: { headers } });
}

/** The SDKs offer their newest legacy version; this puts an older one into the initialize request on its way out. */
function offering(version, transport) {
  const send = transport.send.bind(transport);
  transport.send = (message, more) => send(message.method === 'initialize' ? { ...message, params: { ...message.params, protocolVersion: version } } : message, more);
  return transport;
}

async function every(list, member) {
  const found = [];
  for (let cursor, pages = 0; pages < 100; pages++) {
    const page = await list(cursor === undefined ? undefined : { cursor });
    found.push(...page[member]);
    if ((cursor = page.nextCursor) === undefined) break;
  }
  return found;
}
const textOf = result => (result.content ?? []).map(part => part.text ?? '').join('\n');

async function tour(client, transport) {
  const version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion ?? transport._protocolVersion ?? 'unknown';
  const modern = (client.getProtocolEra?.() ?? 'legacy') === 'modern';
  const upstreamEra = options['upstream-era'] ?? (modern ? 'modern' : 'legacy');
  const offered = client.getServerCapabilities() ?? {};
  const wanted = older ?? (options.era.startsWith('2026') ? options.era : null);
  const eraRight = version === 'unknown' || (wanted ? version === wanted : options.era === 'auto' || modern === (options.era === 'modern'));
  stop('connect', eraRight, `protocol=${version} server=${JSON.stringify(client.getServerVersion())}`);

  const tools = new Map((await every(p => client.listTools(p), 'tools')).filter(t => t.name.startsWith(prefix)).map(t => [t.name, t]));
  stop('tools/list', tools.size > 0, `${tools.size}: ${[...tools.keys()].slice(0, 6)}`);
  const has = name => tools.has(prefix + name);
  const call = (name, args, more) => client.callTool({ name: prefix + name, arguments: filled(args) }, ...(options.v1 ? [undefined] : []), more);

  let resources = [];
  if (offered.resources) {
    resources = await every(p => client.listResources(p), 'resources');
    const templates = await every(p => client.listResourceTemplates(p), 'resourceTemplates');
    stop('resources/list', true, `${resources.length} and ${templates.length} templates`);
    if (resources[0]) {
      const { contents } = await client.readResource({ uri: resources[0].uri });
      stop('resources/read', contents[0]?.uri === resources[0].uri, resources[0].uri);
    }
  }

  if (offered.prompts) {
    const prompts = new Set((await every(p => client.listPrompts(p), 'prompts')).map(p => p.name).filter(n => n.startsWith(prefix)));
    stop('prompts/list', true, `${prompts.size}`);
    for (const [name, known] of Object.entries(KNOWN.prompts)) {
      if (!prompts.has(prefix + name)) continue;
      const got = await client.getPrompt({ name: prefix + name, arguments: known.arguments });
      const said = got.messages.map(m => m.content.text ?? '').join('\n');
      stop(`prompts/get ${name}`, said.includes(known.says), said);
    }
    for (const known of KNOWN.completions) {
      if (!prompts.has(prefix + known.prompt) || !offered.completions) continue;
      const ref = { type: 'ref/prompt', name: prefix + known.prompt };
      const { values } = (await client.complete({ ref, argument: { name: known.argument, value: known.value } })).completion;
      stop(`completion ${known.prompt}`, values.join(' ').includes(known.gives ?? ''), values);
    }
  }

  for (const known of KNOWN.calls) {
    if (!has(known.tool)) continue;
    const result = await call(known.tool, known.arguments);
    const ok = !result.isError && textOf(result).includes(filled(known.says)) && (!known.structured || result.structuredContent !== undefined)
      && (!known.kind || result.content.some(part => part.type === known.kind));
    stop(`call ${known.tool}`, ok, textOf(result));
  }

  try {
    const result = await call('no_such_tool_xyz', {});
    stop('unknown tool', !!result.isError, textOf(result));
  } catch (error) {
    stop('unknown tool', error.code === -32602, `${error.code} ${error.message}`);
  }

  const slow = Object.keys(KNOWN.progress).find(has);
  if (slow) {
    const seen = [];
    await call(slow, KNOWN.progress[slow], { onprogress: p => seen.push(p.progress) });
    stop('progress', seen.length >= 2 && seen.every((p, i) => i === 0 || p >= seen[i - 1]), seen);
  } else stop('progress', null, 'no tool for it');

  if (has(KNOWN.long.tool)) {
    const begun = Date.now();
    let error;
    try { await call(KNOWN.long.tool, KNOWN.long.endless, { signal: AbortSignal.timeout(700) }); } catch (e) { error = e; }
    const again = await call('echo', { message: 'still here' });
    stop('cancel and reuse', !!error && Date.now() - begun < 5000 && textOf(again).includes('still here'), `${Date.now() - begun} ms ${error?.message}`);
  } else stop('cancel and reuse', null, 'no tool for it');

  for (const [kind, eras] of Object.entries(KNOWN.asks)) {
    const name = Object.keys(eras[upstreamEra]).find(has);
    if (!name) { stop(kind, null, 'no tool for it'); continue; }
    if (kind === 'elicitation' && older && older < '2025-06-18') { stop(kind, null, 'not in this version'); continue; }
    const before = asked.length;
    const result = await call(name, eras[upstreamEra][name]).catch(error => {
      // The gateway's word for what cannot be carried between eras: a plain error, and the connection goes on.
      if (error.code !== -31011) throw error;
      return { isError: true, content: [{ type: 'text', text: error.message }] };
    });
    const now = asked.slice(before);
    // Servers may ask for the roots once, at the start, and answer from memory.
    stop(kind, !result.isError && (now.includes(kind) || (kind === 'roots' && textOf(result).includes('tour-root'))), `asked=${now} said=${textOf(result)}`);
  }

  if (modern) await listen(client, has, call);
  else if (offered.resources?.subscribe && resources.length) await subscribe(client, resources, has, call);
  else stop('subscribe', null, 'not offered');
}

async function subscribe(client, resources, has, call) {
  // Any resource of this very server: with a prefix, others may come first in the list.
  const { uri } = resources.find(r => r.uri.includes('watched') || r.uri.startsWith('demo://')) ?? resources[0];
  await client.subscribeResource({ uri });
  let seen = null;
  if (has(KNOWN.updates)) {
    const updated = () => notifications.includes('notifications/resources/updated');
    await call(KNOWN.updates, {});
    for (let i = 0; i < 90 && !updated(); i++) await sleep(100);
    seen = updated();
    await call(KNOWN.updates, {});
  }
  await client.unsubscribeResource({ uri });
  stop('subscribe', seen !== false, `${uri} update=${seen}`);
}

async function listen(client, has, call) {
  const trigger = ['test_trigger_tool_change'].find(has);
  const changed = () => notifications.includes('notifications/tools/list_changed');
  try {
    const subscription = await client.listen({ toolsListChanged: true });
    if (trigger) {
      await call(trigger, {});
      for (let i = 0; i < 50 && !changed(); i++) await sleep(100);
    }
    stop('subscribe', !trigger || changed(), `honored=${JSON.stringify(subscription.honoredFilter)} heard=${[...new Set(notifications)]}`);
    await subscription.close();
  } catch (error) {
    stop('subscribe', error.code === -32601 ? null : false, error.message);
  }
}

process.on('unhandledRejection', error => { stop('no stray rejection', false, String(error?.message ?? error)); });
try {
  const client = await makeClient();
  const transport = await makeTransport();
  await client.connect(older ? offering(older, transport) : transport);
  await tour(client, transport);
  if (client.getProtocolEra?.() !== 'modern') await transport.terminateSession?.();
  await client.close();
  stop('close', true);
} catch (error) {
  stop('no exception', false, `${error.name} ${error.code ?? ''} ${error.message} ${error.cause ?? ''}`);
}
const passed = new Set(stops.filter(([, ok]) => ok).map(([name]) => name));
for (const name of options.require.split(',').filter(Boolean)) if (!passed.has(name)) stop(`required: ${name}`, false, 'it was skipped or did not pass');
const failed = stops.filter(([, ok]) => ok === false).map(([name]) => name);
console.log(`RESULT ${stops.filter(([, ok]) => ok).length} passed, ${failed.length} failed [${failed}], ${stops.filter(([, ok]) => ok === null).length} skipped`);
process.exit(failed.length ? 1 : 0);
