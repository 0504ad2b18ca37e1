#!/usr/bin/env node
// A person with a browser, for programs that open one: follows redirects, fills in the forms of sign-in and consent pages, and stops
// at the client's own address.
//
//   browser.mjs URL STOP_PREFIX [--user NAME] [--password WORD]     prints the address it stopped at
//
// Cookies are kept by host with their path, and Secure ones only come and go over https. It runs no script: pages.mjs does.
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

const MOST_STEPS = 25;
const named = { '&amp;': '&', '&lt;': '<', '&gt;': '>', '&quot;': '"', '&apos;': "'" };
const plain = text => text.replace(/&#x([0-9a-f]+);/gi, (_, hex) => String.fromCodePoint(parseInt(hex, 16))).replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code))).replace(/&\w+;/g, name => named[name] ?? name);
const attributes = tag => Object.fromEntries([...tag.matchAll(/([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>]+)))?/g)].slice(1).map(([, name, a, b, c]) => [name.toLowerCase(), plain(a ?? b ?? c ?? '')]));

/** The forms of a page: {action, method, fields: [[name, value]], buttons: [[name, value]]}. */
export function formsOf(html) {
  return [...html.matchAll(/<form\b[^>]*>[\s\S]*?<\/form>/gi)].map(([form]) => {
    const { action = '', method = 'get' } = attributes(/<form\b[^>]*>/i.exec(form)[0]);
    const fields = [], buttons = [];
    for (const [tag, kind] of form.matchAll(/<(input|button)\b[^>]*>/gi)) {
      const { type = '', name, value = '' } = attributes(tag);
      if (!name) continue;
      if (kind.toLowerCase() === 'button' || /^(submit|button|image)$/i.test(type)) buttons.push([name, value]);
      else if (!/^(checkbox|radio)$/i.test(type) || /\schecked\b/i.test(tag)) fields.push([name, value]);
    }
    return { action, method: method.toLowerCase(), fields, buttons };
  });
}

const textOf = html => html.replace(/<(style|script|head)\b[\s\S]*?<\/\1>/gi, ' ').replace(/<[^>]+>/g, ' ').replace(/\s+/g, ' ').trim();

export class Browser {
  #cookies = new Map(); // host, path and name → {host, path, name, value, secure}

  constructor({ user, password } = {}) { Object.assign(this, { user, password }); }

  #take(url, response) {
    for (const line of response.headers.getSetCookie()) {
      const [pair, ...rest] = line.split(';').map(part => part.trim());
      const [name, value] = [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)];
      const more = Object.fromEntries(rest.map(part => part.split(/=(.*)/s)).map(([key, word]) => [key.toLowerCase(), word ?? true]));
      const secure = more.secure === true || /^__(host|secure)-/i.test(name);
      if ((secure && url.protocol !== 'https:') || (/^__host-/i.test(name) && (more.domain || more.path !== '/'))) continue;
      const path = more.path?.startsWith?.('/') ? more.path : url.pathname.replace(/\/[^/]*$/, '') || '/';
      const key = `${url.hostname} ${path} ${name}`;
      const ended = Number(more['max-age']) <= 0 || Date.parse(more.expires) <= Date.now();
      if (ended) this.#cookies.delete(key); else this.#cookies.set(key, { host: url.hostname, path, name, value, secure });
    }
  }

  #sent(url) {
    const under = path => url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : `${path}/`);
    return [...this.#cookies.values()].filter(one => one.host === url.hostname && under(one.path) && (!one.secure || url.protocol === 'https:')).map(one => `${one.name}=${one.value}`).join('; ');
  }

  /** One request, no redirect followed: {status, headers, url, body, location}. */
  async step(url, { method = 'GET', form, from } = {}) {
    const at = new URL(url);
    const headers = { accept: 'text/html', 'sec-fetch-mode': 'navigate', 'sec-fetch-site': from ? (from.origin === at.origin ? 'same-origin' : 'cross-site') : 'none' };
    const cookies = this.#sent(at);
    if (cookies) headers.cookie = cookies;
    if (form !== undefined) Object.assign(headers, { 'content-type': 'application/x-www-form-urlencoded', origin: (from ?? at).origin });
    const response = await fetch(at, { method, headers, body: form, redirect: 'manual' });
    this.#take(at, response);
    const location = response.headers.get('location');
    return { status: response.status, headers: response.headers, url: at, body: await response.text(), location: location === null ? null : new URL(location, at) };
  }

  /** Goes on until an address that begins with `stop`, filling in forms; `decide` is the answer to consent. Gives that address. */
  async walk(url, stop, { decide = /^(accept|allow|approve|yes|continue|grant)/i } = {}) {
    let next = new URL(url), request = {};
    const way = [];
    for (let count = 0; count < MOST_STEPS; count++) {
      if (next.href.startsWith(stop)) return next;
      way.push(`${request.method ?? 'GET'} ${next.origin}${next.pathname}`);
      const page = await this.step(next, request);
      if (page.location) {
        next = page.location;
        request = { from: page.url };
        continue;
      }
      const form = this.#choose(formsOf(page.body), decide);
      if (!form || page.status >= 400) throw new Error(`the way ends at ${page.url} with ${page.status}: ${textOf(page.body).slice(0, 300)}\n  ${way.join('\n  ')}`);
      const sent = new URLSearchParams(form.fields).toString();
      next = new URL(form.action || page.url, page.url);
      request = { from: page.url };
      if (form.method === 'post') Object.assign(request, { method: 'POST', form: sent });
      else next.search = sent;
    }
    throw new Error(`no end after ${MOST_STEPS} steps\n  ${way.join('\n  ')}`);
  }

  #choose(forms, decide) {
    const wanted = forms.find(form => form.buttons.some(([, value]) => decide.test(value))) ?? forms[0];
    if (!wanted) return undefined;
    const typed = { login: this.user, username: this.user, passwd: this.password, password: this.password };
    const fields = wanted.fields.map(([name, value]) => [name, typed[name] ?? value]);
    const button = wanted.buttons.find(([, value]) => decide.test(value)) ?? wanted.buttons[0];
    return { ...wanted, fields: button ? [...fields, button] : fields };
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { values, positionals: [url, stop] } = parseArgs({ allowPositionals: true, options: { user: { type: 'string' }, password: { type: 'string' } } });
  if (!url || !stop) { console.error('usage: browser.mjs URL STOP_PREFIX [--user NAME] [--password WORD]'); process.exit(2); }
  console.log((await new Browser(values).walk(url, stop)).href);
}
