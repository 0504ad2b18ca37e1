#!/usr/bin/env node
// Two people connect to one protected server, and what may become of that: each comes as themselves, a token that is taken back is
// renewed once however many want it, one who is shut out is asked to connect again while the other goes on, more is allowed where more
// is wanted, and who disconnects gives everything back. Exits 0 only if all of it is so.
//
//   connect_tour.mjs '{"gateway":…, "key":…, "issuer":…, "url":…, "slug":…, "auth": {…}, "how": "dcr|document|registered", "steps_up": true}'
import { deepStrictEqual as same, ok } from 'node:assert';
import { READ, WRITE } from './known.mjs';
import { Person, told } from './person.mjs';

const { gateway, key, issuer, url, slug, auth, how, steps_up } = JSON.parse(process.argv[2]);

const json = async (to, body, headers = {}) => {
  const response = await fetch(to, body === undefined ? { headers } : { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${to}: ${response.status} ${await response.text()}`);
  return response.json();
};
const counters = () => json(`${issuer}/_test/counters`);
const revoke = (whose = '') => json(new URL(`/_test/revoke${whose && `?sub=${whose}`}`, url), {});
const whoami = person => person.at(slug, one => told(one, 'whoami'));

/** The person is told where to connect, and nothing came through. */
async function asked(work) {
  const error = await work().then(answer => { throw new Error(`it was let in: ${JSON.stringify(answer)}`); }, error => error);
  ok(`${error.message} ${JSON.stringify(error.data ?? '')}`.includes(`/connections/${slug}`), `no link: ${error.message} ${JSON.stringify(error.data ?? '')}`);
}

await json(`${gateway}/api/v1/servers`, { slug, replicas: [{ url }], auth: { kind: 'authorization_code', ...auth } }, { authorization: `Bearer ${key}` });
const before = await counters();
const people = ['alice', 'bob'].map(name => new Person(gateway, name));
const [alice, bob] = people;

for (const person of people) {
  await asked(() => whoami(person));
  ok((await person.connect(slug)).includes('Connected'), `${person.name} is not connected`);
  const { sub, scopes } = await whoami(person);
  same([sub, scopes.includes(READ), scopes.includes(WRITE)], [person.name, true, false]);
  same(await person.at(slug, async one => (await one.listTools()).tools.map(({ name }) => name).filter(name => name.startsWith('diary_of_'))), [`diary_of_${person.name}`]);
}
const connected = await counters();
same(connected.registrations - before.registrations, how === 'dcr' ? 1 : 0, 'it registers itself once for each server');
// Once for all servers: it may be kept.
if (how === 'document') ok(connected.documents > 0, 'the document was read');

await revoke();
const all = await Promise.all(people.flatMap(person => Array.from({ length: 10 }, async () => [person.name, (await whoami(person)).sub])));
for (const [name, sub] of all) same(sub, name);
const renewed = await counters();
same(renewed.tokens.refresh_token - (connected.tokens.refresh_token ?? 0), 2, 'one renewal for each');

if (steps_up) {
  await asked(() => alice.at(slug, one => told(one, 'write')));
  await alice.connect(slug);
  same(await alice.at(slug, one => told(one, 'write')), { written: true });
  await asked(() => bob.at(slug, one => told(one, 'write')));
}

await json(`${issuer}/_test/end`, { sub: 'alice' });
await revoke('alice');
await asked(() => whoami(alice));
same((await whoami(bob)).sub, 'bob', 'nobody else is touched');
await alice.connect(slug);
same((await whoami(alice)).sub, 'alice');

const last = await counters();
await bob.disconnect(slug);
await asked(() => whoami(bob));
ok((await counters()).revocations > last.revocations, 'what was given is given back');
same((await whoami(alice)).sub, 'alice');
same((await counters()).reuse, 0, 'no refresh token was shown twice');
console.log(`RESULT Alice and Bob, ${how}`);
