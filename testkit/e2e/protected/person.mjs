// A person with a program and a browser: the program is a client of the gateway, on the official SDK, and signs the person in as desktop
// programs do; the browser fills in the pages of the gateway, of the identity provider and of the servers' own authorization server.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { program } from '../clients/program.mjs';
import { Browser, formsOf } from '../sign_in/browser.mjs';
import { CALLBACK } from '../sign_in/known.mjs';

const PASSWORD = 'Passw0rd!';

export class Person {
  #kept = new Map(); // server → what the program keeps of it

  /** `name` is of a person of the stand-in; the servers' own authorization server calls them by the same. */
  constructor(gateway, name) {
    Object.assign(this, { gateway, name, browser: new Browser({ user: `${name}@contoso.onmicrosoft.com`, password: PASSWORD }) });
  }

  #provider(server) {
    const kept = this.#kept.get(server) ?? {};
    this.#kept.set(server, kept);
    return program(kept, async url => { kept.answer = await this.browser.walk(url, CALLBACK); });
  }

  /** Does `work` with a connected client of the server's own endpoint; the first time it signs in. */
  async at(server, work, { era = 'auto' } = {}) {
    const provider = this.#provider(server), kept = this.#kept.get(server);
    const transport = () => new StreamableHTTPClientTransport(new URL(`${this.gateway}/mcp/${server}`), { authProvider: provider });
    if (!kept.tokens) {
      const asking = transport();
      await bare().connect(asking).catch(() => {}); // refused, and the browser comes back with a code
      if (!kept.answer) throw new Error(`${this.name} was not asked to sign in for ${server}`);
      await asking.finishAuth(kept.answer.searchParams);
    }
    return connected(transport(), work, era);
  }

  /** Opens the page of one connection, by way of a sign-in if need be: {page, form}. */
  async #connection(server) {
    const at = `${this.gateway}/connections/${server}`;
    let page = await this.browser.step(at);
    if (page.location) {
      await this.browser.walk(page.location, at);
      page = await this.browser.step(at);
    }
    return { at, page, form: formsOf(page.body).find(({ action }) => new URL(action, page.url).href === at) };
  }

  /** Presses one of its buttons, and goes through whatever pages come until it is back. Gives that page's text. */
  async #press(server, decision) {
    const { at, page, form } = await this.#connection(server);
    if (!form) throw new Error(`no form at ${page.url}: ${page.status} ${page.body.slice(0, 300)}`);
    const sent = new URLSearchParams([...form.fields, ['decision', decision]]).toString();
    const next = await this.browser.step(at, { method: 'POST', form: sent, from: page.url });
    if (!next.location) throw new Error(`${decision} ${server}: ${next.status} ${next.body.replace(/<[^>]+>/g, ' ').slice(0, 400)}`);
    return (await this.browser.step(await this.browser.walk(next.location, at))).body;
  }

  /** Connects the gateway to the person's account at the server's own authorization server. */
  connect(server) { return this.#press(server, 'connect'); }

  /** Takes that back. */
  disconnect(server) { return this.#press(server, 'disconnect'); }
}

const bare = (era = 'auto') => new Client({ name: 'tour', version: '1.0.0' }, { versionNegotiation: { mode: /^20/.test(era) ? { pin: era } : era } });

async function connected(transport, work, era) {
  const client = bare(era);
  await client.connect(transport);
  try {
    return await work(client);
  } finally {
    await client.close();
  }
}

/** The same with an API key, without a person. */
export const withKey = (gateway, key, server, work, { era } = {}) => connected(new StreamableHTTPClientTransport(new URL(`${gateway}/mcp/${server}`), { requestInit: { headers: { authorization: `Bearer ${key}` } } }), work, era);

/** What a tool says, read. */
export async function told(client, name) {
  const { content, isError } = await client.callTool({ name, arguments: {} });
  if (isError) throw new Error(content[0].text);
  return JSON.parse(content[0].text);
}
