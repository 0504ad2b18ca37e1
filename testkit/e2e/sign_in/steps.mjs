// The steps of the gate about signing in, and what they need running: the stand-in for Entra ID, a client's own host, the reference
// server, and a gateway of their own; with --direct they are tried on the reference.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, here, node24, python, roomy, run, start, untilHttp } from '../procs.mjs';
import { authorizationSuite } from './authorization.mjs';
import { startClientHost } from './client_host.mjs';
import { differential } from './differential.mjs';
import { REGISTERED, SCOPES, registered, secrets } from './known.mjs';
import { chromium, pagesTour, seesWhatIsWrong } from './pages.mjs';

const PERSON = { user: 'alice@contoso.onmicrosoft.com', password: 'Passw0rd!' };
export const CONTOSO = 'c0170000-0000-4000-8000-000000000001', GATEWAY_APP = '11111111-1111-4111-8111-111111111111';
const entra = here('../entra/src/main.js');

/** What runs, once it does: {why: nothing does, issuer, mcp, person, reference, host}. */
let running = { why: 'nothing was started' };

/** Starts a program that says its address in a line of JSON. */
export async function startTold(name, args, env) {
  const child = start(name, node24, args, { env });
  for (;;) {
    const url = /^\{"url":"([^"]+)"/m.exec(child.log())?.[1];
    if (url) return url;
    if (child.over) throw new Error(`${child.over}\n${child.log().slice(-2000)}`);
    await sleep(25);
  }
}

async function isAuthorizationServer(origin) {
  const response = await fetch(`${origin}/.well-known/oauth-authorization-server`);
  return response.ok && (response.headers.get('content-type') ?? '').includes('json') && Boolean((await response.json()).token_endpoint);
}

/** `asked` is a gateway that tells whether gateways sign in at all; without one the reference is what is tried. */
export async function startSignIn({ gatewayBin, work, upstream, asked, wanted }) {
  if (!wanted) return;
  if (asked && !(await isAuthorizationServer(asked))) throw new Error(`${asked} does not say that it is an authorization server`);
  const folder = join(work, 'sign-in');
  mkdirSync(folder, { recursive: true });
  const host = await startClientHost(folder);
  const gateway = asked && (await startGateway({ gatewayBin, folder, upstream, host }));
  const told = { NODE_EXTRA_CA_CERTS: host.ca, CLIENT_SECRETS: JSON.stringify(secrets()) };
  const reference = await startTold('reference', [here('sign_in/reference.mjs'), new URL(upstream).origin], told);
  running = { host, reference, issuer: reference, mcp: `${reference}/mcp`, all: `${reference}/mcp`, person: {}, ...gateway };
}

/** Of a program whose authority nobody here trusts. */
async function untilListening(child) {
  while (!/listening on/.test(child.log())) {
    if (child.over) throw new Error(`${child.over}\n${child.log().slice(-2000)}`);
    await sleep(25);
  }
}

/** Starts a gateway at which people of the stand-in sign in, and a stand-in for it: {issuer, key, authority}. */
export async function startGatewayWithPeople({ gatewayBin, name, folder, ca, tls, env = {} }) {
  if (!existsSync(here('../entra/node_modules/oidc-provider'))) throw new Error('run ../entra/install.sh first');
  const port = await freePort(), key = `mcpg_${randomBytes(24).toString('hex')}`;
  const issuer = tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`;
  const authority = await startTold(`entra-${name}`, [entra], { PORT: '0', REDIRECT_URIS: `${issuer}/oauth/callback/entra` });
  const settings = {
    MREG_PORT: String(port), MREG_HOST: '127.0.0.1', MREG_PUBLIC_URL: issuer, MREG_DATA_DIR: join(folder, `data-${name}`), MREG_BOOTSTRAP_ADMIN_KEY: key, ...roomy,
    MREG_AZURE_TENANT_ID: CONTOSO, MREG_AZURE_ALLOWED_TENANTS: CONTOSO, MREG_AZURE_CLIENT_ID: GATEWAY_APP, MREG_AZURE_CLIENT_SECRET: 'gateway-secret-1',
    MREG_AZURE_AUTHORITY: authority, MREG_AZURE_GRAPH_URL: `${authority}/graph`, MREG_AZURE_V1_ISSUER_PREFIX: `${authority}/sts/`,
    MREG_EXTRA_CA_FILE: ca, ...(tls ? { MREG_TLS_CERT: tls.cert, MREG_TLS_KEY: tls.key } : {}), ...env,
  };
  const child = start(`gateway-${name}`, gatewayBin, ['serve'], { env: settings, cwd: folder });
  await (tls ? untilListening(child) : untilHttp(`${issuer}/health/ready`, { child, status: 200, seconds: 30 }));
  return { issuer, key, authority, env: { MREG_GATEWAY_URL: issuer, MREG_API_KEY: key } };
}

async function startGateway({ gatewayBin, folder, upstream, host }) {
  const { issuer, key, env } = await startGatewayWithPeople({ gatewayBin, name: 'sign-in', folder, ca: host.ca, env: { MREG_CLIENT_METADATA_HOSTS: 'localhost' } });
  await registerClients(issuer, key);
  const added = await run(gatewayBin, ['servers', 'add', 'fixture', '--json', '--url', upstream], { env, cwd: folder, seconds: 30 });
  if (added.code !== 0) throw new Error(`servers add fixture: ${added.output.slice(-600)}`);
  return { issuer, mcp: `${issuer}/mcp/fixture`, all: `${issuer}/mcp`, person: PERSON };
}

/** As an administrator does; the secrets that the gateway makes take the place of those known beforehand. */
async function registerClients(issuer, key) {
  for (const client of REGISTERED) {
    const { client_id, client_name: name, redirect_uris } = client;
    const order = { client_id, name, redirect_uris, kind: client.client_secret ? 'confidential' : 'public', scopes: SCOPES };
    const response = await fetch(`${issuer}/api/v1/oauth-clients`, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: JSON.stringify(order) });
    if (!response.ok) throw new Error(`registering ${client_id}: ${response.status} ${await response.text()}`);
    client.client_secret = (await response.json()).client_secret;
  }
}

// ---- steps

const WAYS = {
  dcr: () => ['--how', 'dcr'],
  document: () => ['--how', 'document', '--document', running.host.document],
  registered: () => ['--how', 'registered', '--client-id', 'tour-public'],
  secret: () => ['--how', 'registered', '--client-id', 'tour-secret', '--client-secret', registered('tour-secret').client_secret],
};
const CLIENTS = {
  ts: args => [node24, [here('clients/oauth_client.mjs'), ...args]],
  v1: args => [node24, [here('clients/oauth_client.mjs'), ...args, '--v1']],
  py: args => [python, [here('clients/oauth_client.py'), ...args]],
};

const notRunning = () => running.why;
export const noBrowser = () => (chromium() || process.env.CI === 'true' ? undefined : 'there is no Chromium (Debian: apt-get install chromium)');

/** A sign-in with an SDK; `more` are arguments of its program. */
async function tour(client, way, ...more) {
  const person = Object.entries(running.person).map(([name, value]) => `--${name}=${value}`);
  const [program, args] = CLIENTS[client]([client === 'v1' ? running.all : running.mcp, ...WAYS[way](), ...person, ...more]);
  const { code, output } = await run(program, args, { seconds: 60 });
  return { ok: code === 0, note: /RESULT (.*)/.exec(output)?.[1], details: code === 0 ? [] : output.split('\n').filter(line => /^(FAIL|SKIP)|Error/.test(line)) };
}

/** Adds the steps to the gate's; `step` is its own way to do so. */
export function planSignIn(step) {
  for (const client of Object.keys(CLIENTS)) {
    for (const way of Object.keys(WAYS)) step(`sign-in ${client} ${way}`, () => tour(client, way), { gateway: false, without: notRunning });
  }
  // In a real browser, each way to be known once, each language too.
  for (const [client, way] of [['ts', 'document'], ['py', 'dcr'], ['ts', 'secret']]) {
    step(`sign-in ${client} ${way}, in Chromium`, () => tour(client, way, '--chromium'), { uses: ['callback'], gateway: false, without: () => notRunning() ?? noBrowser() });
  }
  // Both listen where the person comes back to, and where the browsers above are sent.
  const uses = ['callback'];
  step('sign-in suite authorization', () => authorizationSuite(running.issuer, 'tour-public', { ...running.person, resource: running.mcp }), { uses, gateway: false, without: notRunning });
  step('sign-in pages', () => pagesTour(running.issuer, { ...running.person, shots: process.env.E2E_SHOTS }), { uses, without: () => notRunning() ?? noBrowser() });
  step('sign-in pages, and that bad ones are seen', seesWhatIsWrong, { gateway: false, without: noBrowser });
  step('sign-in differential', () => {
    const { host, reference, issuer, person } = running;
    return differential(reference, issuer, { ...person, document: host.document, stranger: host.stranger, registered: true, ...(reference === issuer ? { accepted: {} } : {}) });
  }, { gateway: false, weight: 2, without: notRunning });
}
