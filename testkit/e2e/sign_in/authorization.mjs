#!/usr/bin/env node
// The official suite's scenarios for an authorization server. The suite prints the address that a person should open; browser.mjs is
// that person. The client must be registered with http://127.0.0.1:7777/callback, where the suite then listens.
//
//   authorization.mjs ISSUER CLIENT_ID [--client-secret SECRET] [--resource URI] [--user NAME] [--password WORD]
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { here, node24 } from '../procs.mjs';
import { Browser } from './browser.mjs';
import { CALLBACK } from './known.mjs';

const SECONDS = 60;

/** Gives {ok, note, details}. */
export async function authorizationSuite(issuer, clientId, { secret, resource, ...person } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'authorization-'));
  const port = new URL(CALLBACK).port;
  const args = ['authorization', '--url', issuer, '--client-id', clientId, ...(secret ? ['--client-secret', secret] : []), ...(resource ? ['--resource', resource] : []), '-p', port, '-o', folder];
  const suite = spawn(node24, [here('node_modules/@modelcontextprotocol/conformance/dist/index.js'), ...args], { env: { ...process.env, PATH: `${dirname(node24)}:${process.env.PATH}` }, stdio: ['ignore', 'pipe', 'pipe'] });
  const timer = setTimeout(() => suite.kill('SIGKILL'), SECONDS * 1000);
  let output = '', opened, wrong = '';
  const heard = chunk => {
    output += chunk;
    const address = /https?:\/\/\S*response_type=code\S*(?=\s)/.exec(output)?.[0];
    if (!address || opened) return;
    opened = new Browser(person).walk(address, CALLBACK).then(back => fetch(back)).catch(error => { wrong = error.message; suite.kill(); });
  };
  suite.stdout.on('data', heard);
  suite.stderr.on('data', heard);
  try {
    const code = await new Promise(resolve => suite.once('close', resolve));
    await opened;
    const checks = readdirSync(folder).flatMap(entry => JSON.parse(readFileSync(join(folder, entry, 'checks.json'), 'utf8')));
    const of = status => checks.filter(check => check.status === status);
    const told = check => `${check.status} ${check.id}: ${check.errorMessage ?? check.description}`;
    // A warning is a fault here: what it asks for can be had.
    const details = [...of('FAILURE'), ...of('WARNING')].map(told);
    if (wrong) details.unshift(wrong);
    if (code !== 0 && !details.length) details.push(output.slice(-600));
    const passed = of('SUCCESS').length;
    return { ok: code === 0 && passed > 0 && !details.length, note: `${passed} checks`, details };
  } finally {
    clearTimeout(timer);
    suite.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals: [issuer, client] } = parseArgs({ allowPositionals: true, options: { 'client-secret': { type: 'string' }, resource: { type: 'string' }, user: { type: 'string' }, password: { type: 'string' } } });
  if (!issuer || !client) { console.error('usage: authorization.mjs ISSUER CLIENT_ID [--client-secret SECRET] [--resource URI] [--user NAME] [--password WORD]'); process.exit(2); }
  const { ok, note, details } = await authorizationSuite(issuer, client, { secret: values['client-secret'], resource: values.resource, user: values.user, password: values.password });
  details.forEach(detail => console.log(detail));
  console.log(`RESULT ${ok ? 'passed' : 'failed'}, ${note}`);
  process.exit(ok ? 0 : 1);
}
