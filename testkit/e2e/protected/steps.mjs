// The steps of the gate about servers that let in nobody without a token of their own authorization server, built on the SDKs of
// others; and what they need running: oidc-provider as that authorization server, three such servers, one that Entra's stand-in
// protects, and a gateway of their own.
import { deepStrictEqual as same, ok } from 'node:assert';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort, here, node24, python, run, start, untilHttp } from '../procs.mjs';
import { startClientHost } from '../sign_in/client_host.mjs';
import { pagesTour } from '../sign_in/pages.mjs';
import { CONTOSO, noBrowser, startGatewayWithPeople, startTold } from '../sign_in/steps.mjs';
import { READ, WRITE, secretOf, wayOf } from './known.mjs';
import { Person, told, withKey } from './person.mjs';
import { takesNothingTwice } from './shown_again.mjs';

const SERVERS = {
  ts: about => [node24, [here('protected/server.mjs'), about]],
  v1: about => [node24, [here('protected/server_v1.mjs'), about]],
  py: about => [python, [here('protected/server.py'), about]],
};
const ERAS = ['legacy', '2026-07-28'];
/** Where a gateway says who calls, in `_meta`. */
const WORD = 'io.mcp-registry-gateway/identity';

/** What runs, once it does: {gateway, key, env, folder, issuer, servers: {name: {url, hand}}, other: another gateway, weird: a server that says what it is sent}. */
let running;

const json = async (url, body) => {
  const response = await fetch(url, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
};

export async function startProtected({ gatewayBin, work, other, weird, wanted }) {
  if (!wanted) return;
  const folder = join(work, 'protected');
  mkdirSync(folder, { recursive: true });
  const { ca, cert, key: hostKey, close } = await startClientHost(folder);
  close();
  const secure = await startGatewayWithPeople({ gatewayBin, name: 'protected-tls', folder, ca, tls: { cert, key: hostKey } });
  const { issuer: gateway, key, env, authority } = await startGatewayWithPeople({ gatewayBin, name: 'protected', folder, ca });
  const ports = Object.fromEntries(await Promise.all([...Object.keys(SERVERS), 'orders'].map(async name => [name, await freePort()])));
  const resources = Object.keys(SERVERS).flatMap(name => ['--resource', `http://127.0.0.1:${ports[name]}/mcp`]);
  const issuer = await startTold('authorization-server', [here('protected/authorization_server.mjs'), '--gateway', gateway, ...resources], { NODE_EXTRA_CA_CERTS: ca });
  const about = {};
  for (const name of Object.keys(SERVERS)) about[name] = { port: ports[name], issuer, keys: `${issuer}/jwks`, others: ['alice', 'gateway-basic', 'gateway-post', 'gateway-key'] };
  // The stand-in's second API gives tokens of version 1.0, which are of another issuer.
  const tenant = `${authority}/${CONTOSO}`;
  about.orders = { port: ports.orders, issuer: `${tenant}/v2.0`, issuerOfTokens: `${authority}/sts/${CONTOSO}/`, keys: `${tenant}/discovery/v2.0/keys`, audience: 'api://orders', read: 'Orders.Read', write: 'Orders.Write' };
  const servers = {};
  await Promise.all(Object.entries(about).map(async ([name, of]) => {
    const [program, args] = (SERVERS[name] ?? SERVERS.ts)(JSON.stringify(of));
    const child = start(`protected-${name}`, program, args), url = `http://127.0.0.1:${of.port}/mcp`;
    await untilHttp(url, { child, status: 401 });
    const hand = (path, body) => json(`http://127.0.0.1:${of.port}/_test/${path}`, body);
    servers[name] = { url, hand };
  }));
  running = { gatewayBin, gateway, key, env, folder, issuer, servers, other, weird, secure, ca };
}

/** What an administrator types, at the gateway of `env`. */
async function administer(args, env = running.env) {
  const { code, output } = await run(running.gatewayBin, args, { env, cwd: running.folder, seconds: 30 });
  if (code !== 0) throw new Error(`${args.slice(0, 3).join(' ')}: ${output.slice(-600)}`);
}

/** Registers the server at a URL under this name. */
const register = (slug, url, auth) => administer(['servers', 'add', slug, '--json', '--url', url, ...Object.entries(auth).flatMap(([name, value]) => ['--auth', `${name}=${value}`])]);

/** How the gateway proves that it is this client. */
const proof = client => ({ client_id: client, client_auth: wayOf(client), ...(secretOf(client) && { client_secret: secretOf(client) }) });

const saidIn = jwt => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));
const hand = (path, body) => json(`${running.issuer}/_test/${path}`, body);
const names = async client => (await client.listTools()).tools.map(({ name }) => name).sort();

async function refused(work, pattern) {
  const error = await work().then(told => { throw new Error(`it was let in: ${JSON.stringify(told)}`); }, error => error);
  ok(pattern.test(error.message), error.message);
}

/** The gateway as a client: it comes with a token for exactly this server, may what its scopes say, and gets another when that one is
 * taken back. */
async function asClient(server, client) {
  const { gateway, key, issuer, servers: { [server]: { url, hand: at } } } = running;
  const slug = `${server}-${client}`;
  const shown = async () => (await hand('counters')).shown[wayOf(client)] ?? 0;
  const earlier = await shown();
  await register(slug, url, { kind: 'client_credentials', issuer, ...proof(client), scopes: READ, resource: url });
  ok(await shown() > earlier, `${client} came by another way`);
  for (const era of ERAS) {
    await withKey(gateway, key, slug, async one => {
      same(await told(one, 'whoami'), { sub: client, client, scopes: [READ] });
      await refused(() => told(one, 'write'), /refuse|not let/i);
    }, { era });
  }
  const before = (await hand('counters')).tokens.client_credentials;
  await at('revoke', {});
  await withKey(gateway, key, slug, async one => same((await told(one, 'whoami')).sub, client));
  same((await hand('counters')).tokens.client_credentials, before + 1, 'one that was taken back is replaced once');
  return { ok: true, note: `as ${client}` };
}

/** Two people at once: each comes as themselves, and sees their own. */
async function asPeople(slug, subjectOf) {
  const people = ['alice', 'bob'].map(name => new Person(running.gateway, name));
  for (const era of ERAS) {
    await Promise.all(people.map(person => person.at(slug, async one => {
      const sub = subjectOf(person.name);
      for (let count = 0; count < 5; count++) same((await told(one, 'whoami')).sub, sub);
      const diaries = (await names(one)).filter(name => name.startsWith('diary_of_'));
      same(diaries, [`diary_of_${sub.replace(/\W+/g, '_')}`]);
    }, { era })));
  }
  return { ok: true, note: 'Alice and Bob, in both eras' };
}

/** The authorization server gives tokens for what the gateway signed about them. */
async function byWord(server, kind, client) {
  const { issuer, servers: { [server]: { url, hand: at } } } = running;
  const slug = `${server}-${kind.replace('_', '-')}`;
  await register(slug, url, { kind, issuer, ...proof(client), scopes: READ, resource: url, claims: 'name' });
  const outcome = await asPeople(slug, name => name);
  if (server === 'v1') same(await at('strayed'), { strayed: 0 });
  return outcome;
}

/** What the gateway signed for one token gets none again, nor for anybody or anything else. */
async function notTwice(server) {
  const { gateway, key, issuer, servers: { [server]: { url } } } = running;
  await register('proved-once', url, { kind: 'client_credentials', issuer, ...proof('gateway-key'), scopes: READ, resource: url });
  await withKey(gateway, key, 'proved-once', one => told(one, 'whoami'));
  const alice = new Person(gateway, 'alice');
  for (const kind of ['token_exchange', 'id_jag']) {
    const slug = `once-${kind.replace('_', '-')}`;
    await register(slug, url, { kind, issuer, ...proof('gateway-post'), scopes: READ, resource: url, claims: 'name' });
    await alice.at(slug, async one => same((await told(one, 'whoami')).sub, 'alice'));
  }
  await takesNothingTwice(issuer, await hand('asked'));
  return { ok: true, note: 'proofs, words and assertions' };
}

/** Another gateway is the authorization server, and believes this one about people. Behind it is a server that it tells who calls. */
async function introduced() {
  const { gateway, other, weird } = running, slug = 'introduced', resource = `${other.origin}/mcp/named`;
  await administer(['servers', 'add', 'named', '--json', '--url', weird, '--auth', 'kind=identity', '--auth', 'meta=true', '--auth', 'claims=name'], other.env);
  // It fetches keys by https only.
  const keys = join(running.folder, 'keys.json');
  writeFileSync(keys, JSON.stringify(await json(`${gateway}/oauth/keys`)));
  await administer(['trust', 'add', 'first', '--issuer', gateway, '--jwks', keys, '--role', 'user', '--json'], other.env);
  await administer(['clients', 'add', 'first-gateway', '--kind', 'confidential', '--grant', 'jwt-bearer', '--scope', 'mcp', '--jwks', keys, '--json'], other.env);
  await register(slug, resource, { kind: 'id_jag', issuer: other.origin, client_id: 'first-gateway', client_auth: 'private_key_jwt', scopes: 'mcp', claims: 'name' });
  const people = ['alice', 'bob'].map(name => new Person(gateway, name));
  const accounts = await Promise.all(people.map(person => person.at(slug, async one => {
    const heard = new Map();
    for (let count = 0; count < 5; count++) {
      const { iss, sub, preferred_username: name } = saidIn((await told(one, 'echo_raw'))._meta[WORD]);
      same([iss, name.split('@')[0]], [other.origin, person.name]);
      heard.set(sub, name);
    }
    same(heard.size, 1, `${person.name} is one account there`);
    return [...heard.keys()][0];
  })));
  same(new Set(accounts).size, people.length, 'they are two accounts there');
  return { ok: true, note: 'Alice and Bob are themselves there' };
}

async function onBehalf() {
  await register('orders', running.servers.orders.url, { kind: 'on_behalf_of', audience: 'api://orders' });
  const outcome = await asPeople('orders', name => `${name}@contoso.onmicrosoft.com`);
  const person = new Person(running.gateway, 'alice');
  await person.at('orders', one => refused(() => told(one, 'write'), /let you in/i));
  // What is taken back for one person is got anew for that person, and the call is none the wiser.
  await running.servers.orders.hand('revoke', {});
  await person.at('orders', async one => same((await told(one, 'whoami')).sub, 'alice@contoso.onmicrosoft.com'));
  return outcome;
}

/** How the gateway becomes a client of the authorization server. */
const WAYS = {
  // An authorization server that only the server names has to be on the Internet.
  dcr: () => ({ issuer: running.issuer }),
  // Its description has to be at an https URL.
  document: () => ({ issuer: running.issuer }),
  registered: () => ({ issuer: running.issuer, client_id: 'gateway-code', client_secret: secretOf('gateway-code') }),
};

async function connecting(server, how) {
  const { gateway, key, secure, issuer, ca, servers } = running;
  const at = how === 'document' ? { gateway: secure.issuer, key: secure.key } : { gateway, key };
  // The Python SDK does not say in its challenge which scope it wants.
  const order = { ...at, issuer, url: servers[server].url, slug: `${server}-${how}`, auth: { ...WAYS[how](), scopes: [READ] }, how, steps_up: server !== 'py' };
  const { code, output } = await run(node24, [here('protected/connect_tour.mjs'), JSON.stringify(order)], { env: { NODE_EXTRA_CA_CERTS: ca }, seconds: 60 });
  return { ok: code === 0, note: /RESULT (.*)/.exec(output)?.[1], details: code === 0 ? [] : output.split('\n').filter(line => /Error|^\s+at |no link|!==|[+-] /.test(line)) };
}

/** The pages on which a person connects, before and after, in a real browser. */
async function pagesOfConnections() {
  const { gateway, issuer, servers } = running, slug = 'pages', at = `${gateway}/connections/${slug}`;
  await register(slug, servers.ts.url, { kind: 'authorization_code', issuer, scopes: READ });
  const { user, password } = new Person(gateway, 'alice').browser;
  return pagesTour(gateway, {
    user, password, shots: process.env.E2E_SHOTS && join(process.env.E2E_SHOTS, 'connections'), paths: ['/connections', `/connections/${slug}`],
    more: async ({ page, look, press }) => {
      let response;
      const connected = async () => page.url().startsWith(at) && (await page.getByRole('button', { name: 'Disconnect' }).count()) > 0;
      for (let count = 0; count < 10 && !(await connected()); count++) response = await press();
      await look(response, 'connected');
      await look(await page.goto(`${gateway}/connections`), 'list');
    },
  });
}

/** Adds the steps to the gate's. */
export function planProtected(step) {
  for (const server of Object.keys(SERVERS)) {
    for (const client of ['gateway-basic', 'gateway-post', 'gateway-key']) step(`protected ${server} client_credentials ${client}`, () => asClient(server, client), { uses: ['protected'] });
    for (const how of Object.keys(WAYS)) step(`protected ${server} authorization_code ${how}`, () => connecting(server, how), { uses: ['protected'] });
    step(`protected ${server} token_exchange`, () => byWord(server, 'token_exchange', 'gateway-post'), { uses: ['protected'] });
    step(`protected ${server} id_jag`, () => byWord(server, 'id_jag', 'gateway-key'), { uses: ['protected'] });
  }
  step('protected, pages of connections', pagesOfConnections, { uses: ['protected', 'callback'], without: noBrowser });
  step('protected, and nothing is taken twice', () => notTwice('ts'), { uses: ['protected'] });
  step('protected by another gateway, id_jag', introduced, { uses: ['protected'] });
  step('protected by the stand-in, on_behalf_of', onBehalf, { uses: ['protected'] });
}
