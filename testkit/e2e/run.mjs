#!/usr/bin/env node
// The end-to-end gate: the real binary, real upstreams, real clients. Needs GATEWAY_BIN (mcp-gateway) and FIXTURE_BIN (the suite's
// fixture server). Prints a line per step and ends with "N passed, M failed".
//
//   run.mjs [--only REGEX] [--list] [--jobs N] [--direct]
//
// --direct leaves the gateway out and points everything at the upstreams themselves: it proves the material, not the product.
// Two gateways run: one that serves the tours, whose aggregated endpoint must hold nothing a strict client would refuse, and one
// for the suite, the oracle and the streams.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, mkdirSync, rmSync, existsSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { start, stopAll, run, freePort, untilHttp, here, node24, python, npmServer, logDirectory, roomy } from './procs.mjs';
import { startShim } from './shim.mjs';
import { compareAt, wires } from './conformance.mjs';
import { clientScenario, clientScenarios } from './client_mode.mjs';
import { cancellation, resumption, notification } from './streams.mjs';
import { planProtected, startProtected } from './protected/steps.mjs';
import { planSignIn, startSignIn } from './sign_in/steps.mjs';

const { values: options } = parseArgs({ options: { only: { type: 'string' }, list: { type: 'boolean', default: false }, jobs: { type: 'string', default: '6' }, direct: { type: 'boolean', default: false } } });
const gatewayBin = process.env.GATEWAY_BIN, fixtureBin = process.env.FIXTURE_BIN;
for (const [name, path] of options.list ? [] : Object.entries({ ...(options.direct ? {} : { GATEWAY_BIN: gatewayBin }), FIXTURE_BIN: fixtureBin })) {
  if (!path || !existsSync(path)) { console.error(`${name} must be the path of a program${path ? `; there is none at ${path}` : ''}`); process.exit(2); }
}
if (!options.list && (!existsSync(node24) || !existsSync(python))) { console.error('run install.sh first'); process.exit(2); }

const begun = Date.now();
const seconds = since => ((Date.now() - since) / 1000).toFixed(1);
const work = options.list ? '' : realpathSync(mkdtempSync(join(tmpdir(), 'mcp-gateway-gate-')));
process.on('exit', () => { if (work) rmSync(work, { recursive: true, force: true }); });
const dir = join(work, 'files'), repo = join(work, 'repo');
const venv = name => here('.venv/bin', name);
const loopback = (port, path = '/mcp') => `http://127.0.0.1:${port}${path}`;

// ---- upstreams: what they are, and how the gateway is told of them ----------------------------------------------------

const upstreams = {}; // slug → {gateway, url?, transport?, command?, more?}
const weird = (...args) => [process.execPath, here('weird_upstream.mjs'), ...args];

async function startHttp(slug, gateway, command, env = {}, path = '/mcp', more = {}) {
  const port = await freePort();
  const [program, ...args] = command.map(part => part.replace('PORT', port));
  const child = start(slug, program, args, { env: Object.fromEntries(Object.entries(env).map(([k, v]) => [k, v.replace('PORT', port)])) });
  upstreams[slug] = { gateway, url: loopback(port, path), ...more };
  await untilHttp(loopback(port, path === '/sse' ? '/' : path), { child });
}
const everything = kind => [process.execPath, npmServer('server-everything'), ...(kind ? [kind] : [])];

async function startUpstreams() {
  mkdirSync(dir);
  mkdirSync(repo);
  execFileSync('git', ['init', '-q', '-b', 'main', repo]);
  execFileSync('git', ['-C', repo, '-c', 'user.name=tour', '-c', 'user.email=tour@example.com', 'commit', '-q', '--allow-empty', '-m', 'A first commit']);
  await Promise.all([
    startHttp('everything-http', 'tours', everything('streamableHttp'), { PORT: 'PORT' }),
    startHttp('everything-sse', 'tours', everything('sse'), { PORT: 'PORT' }, '/sse', { transport: 'sse' }),
    startHttp('fixture', 'tours', [fixtureBin, '--port', 'PORT']),
    startHttp('suite', 'bench', [fixtureBin, '--port', 'PORT']),
    startHttp('suite-direct', null, [fixtureBin, '--port', 'PORT']),
    startHttp('oracle-fixture', 'bench', [fixtureBin, '--port', 'PORT']),
    startHttp('oracle-everything', 'bench', everything('streamableHttp'), { PORT: 'PORT' }),
    startHttp('oracle-fastmcp', 'bench', [python, here('fastmcp_server.py'), 'PORT']),
    startHttp('weird', 'bench', weird('PORT')),
    startHttp('weird-streams', 'bench', weird('PORT')),
    startHttp('weird-legacy', 'bench', weird('PORT', '--era', 'legacy')),
    startHttp('weird-modern', 'bench', weird('PORT', '--era', 'modern')),
  ]);
  upstreams['weird-stdio'] = { gateway: 'bench', command: weird('--stdio'), more: ['--sharing', 'per_session'] };
  upstreams['weird-shared'] = { gateway: 'bench', command: weird('--stdio'), more: ['--sharing', 'shared'] };
  upstreams['everything-stdio'] = { gateway: 'tours', command: everything('stdio'), more: ['--sharing', 'per_session'] };
  upstreams.filesystem = { gateway: 'tours', command: [process.execPath, npmServer('server-filesystem'), dir] };
  upstreams.memory = { gateway: 'tours', command: [process.execPath, npmServer('server-memory')], more: ['--env', `MEMORY_FILE_PATH=${join(work, 'memory.json')}`] };
  upstreams.git = { gateway: 'tours', command: [venv('mcp-server-git'), '--repository', repo] };
  upstreams.time = { gateway: 'tours', command: [venv('mcp-server-time'), '--local-timezone', 'UTC'] };
  for (const era of ['legacy', 'modern']) {
    const shim = await startShim(new URL(upstreams.fixture.url).origin, 0, `${era}-only`, { rewriteHost: 'own' });
    upstreams[`fixture-${era}`] = { gateway: 'bench', url: loopback(shim.port) };
  }
}

// ---- gateways -----------------------------------------------------------------------------------------------------------

const gateways = {};

async function startGateway(name) {
  const port = await freePort(), key = `mcpg_${randomBytes(24).toString('hex')}`;
  const env = { MREG_PORT: String(port), MREG_HOST: '127.0.0.1', MREG_DATA_DIR: join(work, `data-${name}`), MREG_BOOTSTRAP_ADMIN_KEY: key, ...roomy };
  const child = start(`gateway-${name}`, gatewayBin, ['serve'], { env, cwd: work });
  const origin = `http://127.0.0.1:${port}`;
  await untilHttp(`${origin}/health/ready`, { child, status: 200, seconds: 30 });
  gateways[name] = { origin, key, child, env: { MREG_GATEWAY_URL: origin, MREG_API_KEY: key } };
}

async function register(slug, { gateway, url, transport, command, more = [] }) {
  const args = ['servers', 'add', slug, '--json', ...more, ...(url ? ['--url', url, ...(transport ? ['--transport', transport] : [])] : ['--', ...command])];
  const { code, output } = await run(gatewayBin, args, { env: gateways[gateway].env, cwd: work, seconds: 30 });
  return { ok: code === 0, details: code === 0 ? [] : [output.slice(-600)] };
}

/** Where a client goes for one upstream, and with which headers; `old` by the door of the oldest transport. */
function front(slug, { old = false } = {}) {
  const { url, command, transport, gateway } = upstreams[slug];
  if (options.direct) return { url: url ? (transport === 'sse' ? `sse:${url}` : url) : `stdio:${command.join(' ')}`, headers: {}, flags: [] };
  const { origin, key } = gateways[gateway];
  if (old) return { url: `sse:${origin}/sse/${slug}`, aggregated: `sse:${origin}/sse`, flags: ['--header', `Authorization: Bearer ${key}`] };
  return { url: `${origin}/mcp/${slug}`, aggregated: `${origin}/mcp`, token: key, headers: { authorization: `Bearer ${key}` }, flags: ['--header', `Authorization: Bearer ${key}`] };
}

// ---- steps --------------------------------------------------------------------------------------------------------------

const steps = []; // {name, work, uses: what no other step may use at the same time, weight, gateway: whether it needs one, without: why not}
const step = (name, work, { uses = [], weight = 1, gateway = true, without = () => undefined } = {}) => steps.push({ name, work, uses, weight, gateway, without });
const failed = (output, pattern = /^(FAIL|DIFF|RESULT|killed|Traceback|\w*Error)|^    (direct|gateway)/) => output.split('\n').filter(line => pattern.test(line)).slice(0, 14);

async function program(command, args, env = {}, seconds = 100) {
  const { code, output } = await run(command, args, { env, seconds });
  const result = /RESULT (.*)/.exec(output)?.[1];
  return { ok: code === 0, note: result, details: code === 0 ? [] : (failed(output).length ? failed(output) : [output.slice(-600)]) };
}

const CLIENTS = {
  ts: (target, flags) => [node24, [here('clients/ts_client.mjs'), target, ...flags]],
  v1: (target, flags) => [node24, [here('clients/ts_client.mjs'), target, '--v1', ...flags]],
  py: (target, flags) => [python, [here('clients/py_client.py'), target, ...flags]],
};
const TOUR_ENV = () => ({ TOUR_DIR: dir, TOUR_REPO: repo });

// What each server must have shown by the end of a tour; the rest may be skipped where a server has nothing for it.
const ASKS = ['elicitation', 'sampling'];
const TARGETS = {
  'everything-http': { only: 'legacy', require: ['call echo', 'call get-sum', 'prompts/get simple-prompt', 'progress', 'cancel and reuse', ...ASKS] },
  'everything-stdio': { only: 'legacy', require: ['call echo', 'call get-sum', 'prompts/get simple-prompt', 'progress', 'cancel and reuse', ...ASKS] },
  'everything-sse': { only: 'legacy', require: ['call echo', 'call get-sum', 'prompts/get simple-prompt', 'progress', 'cancel and reuse', ...ASKS] },
  filesystem: { only: 'legacy', require: ['call write_file', 'call read_text_file'] },
  memory: { only: 'legacy', require: ['call create_entities', 'call search_nodes'] },
  git: { require: ['call git_log', 'call git_status'] },
  time: { require: ['call convert_time'] },
};

function tour(client, slug, era, { prefixed = false, require = [], upstreamEra, label = 'tour', old = false } = {}) {
  const modern = era.startsWith('2026');
  // A modern client has no standing roots that a legacy server could have asked for when its session began.
  const excused = modern && (upstreamEra === 'legacy' || TARGETS[slug]?.only === 'legacy') ? ['roots'] : [];
  // Three servers offer the same resource URIs at the aggregated endpoint: which of them a subscription reaches is not defined.
  if (prefixed && slug.startsWith('everything')) excused.push('subscribe');
  // What a server asks of its client crosses only between ends of one era; elsewhere the call fails with the reason.
  const crosses = (modern && (upstreamEra === 'legacy' || TARGETS[slug]?.only === 'legacy')) || (!modern && upstreamEra === 'modern');
  if (crosses) excused.push(...ASKS, 'roots');
  const excuse = excused.length ? ['--excuse', excused.join(',')] : [];
  const wanted = require.filter(name => !(era < '2025-06-18' && name === 'elicitation') && !(crosses && ASKS.includes(name)));
  const asked = upstreamEra ?? (modern && TARGETS[slug]?.only === 'legacy' ? 'legacy' : undefined);
  const door = old ? '/sse' : '/mcp';
  step(`${label} ${client} ${era} ${prefixed ? door : `${door}/…`} ${slug}`, () => {
    const { url, aggregated, flags } = front(slug, { old });
    const all = ['--era', era, ...flags, ...(prefixed ? ['--prefix', `${slug}__`] : []), ...(asked ? ['--upstream-era', asked] : []), ...excuse, ...(wanted.length ? ['--require', wanted.join(',')] : [])];
    return program(...CLIENTS[client](prefixed ? aggregated : url, all), TOUR_ENV(), 90);
    // server-memory reads its file, changes it and writes it: two who do that at once lose what one of them wrote.
  }, { uses: slug === 'memory' ? [slug] : [], gateway: old || prefixed || (modern && TARGETS[slug]?.only === 'legacy') || !!upstreamEra });
}

function plan() {
  // The official suite, each wire in turn against the same two fixtures.
  for (const wire of wires) {
    step(`suite ${wire}`, () => { const { url, token } = front('suite'); return compareAt(wire, upstreams['suite-direct'].url, url, token, true); }, { uses: ['suite'], weight: 2, gateway: false });
  }
  for (const which of clientScenarios) step(`suite client ${which}`, () => clientScenario(which, gateways.bench?.env ?? {}), { gateway: false });

  // The oracle: direct and gateway against the very same upstream, one conversation at a time.
  const oracle = (slug, era, { direct = slug, flags = [], label = '' } = {}) => step(`oracle ${era}${label} ${slug}`, () => {
    const { url, flags: header } = front(slug);
    return program(python, [here('oracle.py'), upstreams[direct].url, url, '--era', era, ...flags, ...(header.length ? ['--gateway-header', header[1]] : [])], {}, 150);
  }, { uses: [direct], gateway: direct !== slug });
  for (const era of ['legacy', 'modern']) {
    oracle('oracle-fixture', era);
    oracle('oracle-fastmcp', era);
    oracle('weird', era);
    oracle('weird-stdio', era, { direct: 'weird', flags: ['--other-transport'] });
  }
  oracle('oracle-everything', 'legacy');
  for (const version of ['2025-06-18', '2025-03-26']) oracle('weird', 'legacy', { flags: ['--legacy-version', version], label: ` ${version}` });

  // The schemas of each version, at the endpoint of all servers and at that of one of each era.
  for (const version of ['2025-03-26', '2025-06-18', '2025-11-25', '2026-07-28']) {
    for (const slug of [null, 'fixture', 'everything-http', 'time']) {
      step(`schemas ${version} ${slug ? `/mcp/… ${slug}` : '/mcp'}`, () => {
        const { url, aggregated, flags } = front(slug ?? 'fixture');
        return program(python, [here('schema_check.py'), slug ? url : aggregated, '--version', version, ...flags], {}, 120);
      });
    }
  }

  // Cancellation, resumption, notifications: own eras, bridged eras, and over stdio.
  for (const [era, slug] of [['legacy', 'weird-streams'], ['modern', 'weird-streams'], ['modern', 'weird-legacy'], ['legacy', 'weird-modern'], ['legacy', 'weird-shared'], ['modern', 'weird-shared']]) {
    step(`cancellation ${era} client, ${slug}`, () => { const { url, headers } = front(slug); return cancellation(url, headers, era); }, { gateway: slug !== 'weird-streams' });
  }
  step('resumption with Last-Event-ID, weird-streams', () => { const { url, headers } = front('weird-streams'); return resumption(url, headers); }, { gateway: false });
  step('an unknown notification, weird-streams', () => { const { url, headers } = front('weird-streams'); return notification(url, headers); }, { gateway: false });

  // Tours: every target, every client, its eras forced in turn, by itself and aggregated.
  for (const [slug, { require }] of Object.entries(TARGETS)) {
    for (const prefixed of [false, true]) {
      for (const [client, era] of [['ts', 'legacy'], ['ts', '2026-07-28'], ['v1', 'legacy'], ['py', 'legacy'], ['py', '2026-07-28']]) tour(client, slug, era, { prefixed, require });
    }
  }
  // The door of the oldest transport, by the clients that still have it.
  for (const client of ['ts', 'v1', 'py']) {
    for (const slug of ['everything-http', 'everything-stdio', 'time']) tour(client, slug, 'legacy', { require: TARGETS[slug].require, old: true });
    for (const slug of ['memory', 'git']) tour(client, slug, 'legacy', { prefixed: true, require: TARGETS[slug].require, old: true });
  }
  for (const client of ['ts', 'py']) for (const slug of ['time', 'filesystem']) tour(client, slug, 'auto', { require: TARGETS[slug].require });
  for (const [client, era] of [['ts', '2025-06-18'], ['ts', '2024-11-05'], ['v1', '2025-03-26'], ['py', '2025-06-18'], ['py', '2025-03-26']]) tour(client, 'everything-http', era, { require: TARGETS['everything-http'].require });

  // The matrix of eras; server-everything (legacy only) and mcp-server-time (both) have been toured above.
  const FIXTURE = ['call test_simple_text', 'progress', ...ASKS];
  for (const [client, era] of [['ts', 'legacy'], ['ts', '2026-07-28'], ['v1', 'legacy'], ['py', 'legacy'], ['py', '2026-07-28']]) {
    tour(client, 'fixture', era, { require: [...FIXTURE, 'subscribe'], label: 'matrix' });
    tour(client, 'fixture-legacy', era, { require: FIXTURE, upstreamEra: 'legacy', label: 'matrix' });
    tour(client, 'fixture-modern', era, { require: FIXTURE, upstreamEra: 'modern', label: 'matrix' });
  }
  for (const era of ['legacy', 'auto', 'modern']) {
    step(`inspector ${era} tools/list time`, async () => {
      const { url, flags } = front('time');
      const { code, output, stdout } = await run(node24, [here('node_modules/.bin/mcp-inspector'), '--cli', url, '--transport', 'http', '--protocol-era', era, '--method', 'tools/list', '--format', 'json', ...flags], { seconds: 60 });
      const ok = code === 0 && /convert_time/.test(stdout);
      return { ok, details: ok ? [] : [output.slice(-400)] };
    });
  }
}

/** Runs the steps, several at once, never two that use the same thing. */
async function runAll(chosen, capacity) {
  const tally = { passed: 0, failed: [] };
  const waiting = [...chosen], busy = new Set();
  let load = 0, wake = () => {};
  while (waiting.length || load) {
    const at = waiting.findIndex(s => load + s.weight <= capacity && s.uses.every(use => !busy.has(use)));
    if (at < 0) { await new Promise(resolve => { wake = resolve; }); continue; }
    const [one] = waiting.splice(at, 1);
    const why = one.without?.();
    if (why) { console.log(`SKIP ${one.name}: ${why}`); continue; }
    load += one.weight;
    one.uses.forEach(use => busy.add(use));
    const since = Date.now();
    Promise.resolve().then(one.work).catch(error => ({ ok: false, details: [String(error.stack ?? error).slice(0, 600)] })).then(({ ok, note, line, details = [] }) => {
      console.log(`${ok ? 'PASS' : 'FAIL'} ${one.name} (${seconds(since)} s)${note || line ? `: ${note ?? line}` : ''}`);
      if (!ok) for (const detail of details.slice(0, 14)) console.log(`     ${detail.slice(0, 400)}`);
      if (ok) tally.passed++; else tally.failed.push(one.name);
      load -= one.weight;
      one.uses.forEach(use => busy.delete(use));
      wake();
    });
  }
  return tally;
}

plan();
planSignIn(step);
planProtected(step);
const only = options.only && new RegExp(options.only);
const chosen = steps.filter(s => (!only || only.test(s.name)) && !(options.direct && s.gateway));
if (options.list) { chosen.forEach(s => console.log(s.name)); console.log(`${chosen.length} steps`); process.exit(0); }

let tally = { passed: 0, failed: ['starting'] };
try {
  await startUpstreams();
  console.log(`upstreams are up (${seconds(begun)} s)`);
  const registrations = [];
  if (!options.direct) {
    await Promise.all(['tours', 'bench'].map(startGateway));
    console.log(`gateways are up (${seconds(begun)} s)`);
    for (const [slug, upstream] of Object.entries(upstreams)) if (upstream.gateway) registrations.push({ name: `servers add ${slug}`, work: () => register(slug, upstream), uses: [upstream.gateway], weight: 1 });
  }
  await startSignIn({ gatewayBin, work, upstream: upstreams.fixture.url, asked: options.direct ? undefined : gateways.bench.origin, wanted: chosen.some(s => s.name.startsWith('sign-in')) });
  await startProtected({ gatewayBin, work, other: gateways.bench, weird: upstreams.weird.url, wanted: chosen.some(s => s.name.startsWith('protected')) });
  const first = await runAll(registrations, 2);
  const rest = await runAll(chosen, Number(options.jobs));
  tally = { passed: first.passed + rest.passed, failed: [...first.failed, ...rest.failed] };
} catch (error) {
  console.log(`FAIL starting: ${error.stack ?? error}`);
} finally {
  await stopAll();
}
if (tally.failed.length) console.log(`failed: ${tally.failed.join('; ')}\nlogs of the processes are in ${logDirectory()}`);
else rmSync(logDirectory(), { recursive: true, force: true });
console.log(`${tally.passed} passed, ${tally.failed.length} failed (${seconds(begun)} s)`);
process.exit(tally.failed.length ? 1 : 0);
