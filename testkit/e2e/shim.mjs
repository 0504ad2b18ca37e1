#!/usr/bin/env node
// A transparent HTTP reverse proxy: shim.mjs UPSTREAM_ORIGIN PORT [CHANGE]. It adds headers (ADD_HEADERS, JSON), maps the path
// (MAP_PATH, as "/mcp=/mcp/everything"), logs what passes (LOG, a file), and keeps the Host header unless REWRITE_HOST is 1, or `own` to
// replace the shim's own address only, as a client of the upstream would have written it.
// CHANGE is one entry of mutations.mjs: forcing an older wire version, serving one era only, or a deliberate fault. Without
// one every byte goes through as it came.
import http from 'node:http';
import { appendFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import mutations from './mutations.mjs';

export function startShim(upstream, port, change, { addHeaders = {}, mapPath, log, rewriteHost = false } = {}) {
  const to = new URL(upstream);
  const mutation = change ? mutations[change] : {};
  if (!mutation) throw new Error(`no such change: ${change}`);
  const note = record => { if (log) appendFileSync(log, `${JSON.stringify(record)}\n`); };

  // A change sees parsed messages; a message it leaves alone keeps its text, and one it edits keeps the text of its numbers and
  // escapes, so that an edit is the only difference (where the runtime can do that: Node 22 and newer).
  const lossless = 'rawJSON' in JSON;
  const parse = text => (lossless ? JSON.parse(text, (_, value, { source }) => (source !== undefined && JSON.stringify(value) !== source ? JSON.rawJSON(source) : value)) : JSON.parse(text));
  const changed = (text, direction, context) => {
    const edit = mutation[direction];
    if (!edit || !text) return text;
    let before;
    try { before = JSON.stringify(parse(text)); } catch { return text; }
    const after = edit(parse(text), context);
    if (after === null) return null;
    return JSON.stringify(after) === before ? text : JSON.stringify(after);
  };
  const events = (from, onEvent) => {
    let rest = '';
    from.setEncoding('utf8');
    from.on('data', chunk => {
      rest += chunk;
      for (let cut; (cut = /\r?\n\r?\n/.exec(rest)); rest = rest.slice(cut.index + cut[0].length)) onEvent(rest.slice(0, cut.index));
    });
  };

  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', chunk => chunks.push(chunk));
    request.on('end', () => {
      let body = Buffer.concat(chunks).toString('utf8');
      let headers = { ...request.headers, ...addHeaders };
      const refusal = mutation.refuse?.(request, body);
      if (refusal) return response.writeHead(refusal.status, { 'content-type': 'application/json' }).end(refusal.body ?? '');
      let asked = null;
      try { asked = JSON.parse(body); } catch { /* not for a change to see */ }
      const edited = changed(body, 'request', { headers });
      if (edited === null) return response.writeHead(202).end();
      if (edited !== body) body = edited;
      if (mutation.requestHeaders) headers = mutation.requestHeaders(headers, request);
      const own = `127.0.0.1:${server.address().port}`;
      if (rewriteHost === true || (rewriteHost === 'own' && headers.host === own)) headers.host = to.host;
      if (rewriteHost === 'own' && headers.origin === `http://${own}`) headers.origin = to.origin;
      delete headers['content-length'];
      delete headers['transfer-encoding'];
      if (body) headers['content-length'] = Buffer.byteLength(body);
      note({ method: request.method, url: request.url, headers: request.headers, body });
      const [from, onto] = mapPath ?? [];
      const path = from !== undefined && (request.url === from || request.url.startsWith(`${from}?`)) ? onto + request.url.slice(from.length) : request.url;

      const context = { asked };
      const upward = http.request({ host: to.hostname, port: to.port, method: request.method, path, headers }, reply => {
        let replyHeaders = { ...reply.headers };
        if (mutation.responseHeaders) replyHeaders = mutation.responseHeaders(replyHeaders);
        const status = mutation.status?.(reply.statusCode, context) ?? reply.statusCode;
        if ((reply.headers['content-type'] ?? '').includes('text/event-stream')) {
          delete replyHeaders['content-length'];
          response.writeHead(status, replyHeaders);
          response.flushHeaders();
          if (!mutation.response && !mutation.event) reply.on('data', chunk => { note({ event: chunk.toString() }); response.write(chunk); });
          else events(reply, event => {
            const lines = event.split(/\r?\n/);
            const data = lines.filter(line => line.startsWith('data:')).map(line => line.slice(5).replace(/^ /, '')).join('\n');
            const after = changed(data, 'response', context);
            if (after === null) return;
            let out = after === data ? lines : [...lines.filter(line => !line.startsWith('data:')), `data: ${after}`];
            if (mutation.event) out = mutation.event(out);
            if (out) response.write(`${out.join('\n')}\n\n`);
          });
          reply.on('end', () => response.end());
        } else {
          const parts = [];
          reply.on('data', chunk => parts.push(chunk));
          reply.on('end', () => {
            let raw = Buffer.concat(parts);
            note({ status: reply.statusCode, body: raw.toString() });
            if ((reply.headers['content-type'] ?? '').includes('json')) {
              const text = raw.toString('utf8'), after = changed(text, 'response', context);
              if (after !== null && after !== text) raw = Buffer.from(after);
            }
            delete replyHeaders['transfer-encoding'];
            response.writeHead(status, { ...replyHeaders, ...(raw.length || replyHeaders['content-length'] ? { 'content-length': raw.length } : {}) });
            response.end(raw);
          });
        }
        reply.on('error', () => response.destroy());
      });
      upward.on('error', () => { if (!response.headersSent) response.writeHead(502); response.end(); });
      if (!mutation.deafToClosing) response.on('close', () => upward.destroy());
      upward.end(body || undefined);
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve({ port: server.address().port, close: () => { server.closeAllConnections(); server.close(); } }));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [upstream, port, change] = process.argv.slice(2);
  if (!upstream || !port) { console.error('usage: shim.mjs UPSTREAM_ORIGIN PORT [CHANGE]'); process.exit(2); }
  await startShim(upstream, Number(port), change, {
    addHeaders: JSON.parse(process.env.ADD_HEADERS ?? '{}'), mapPath: process.env.MAP_PATH?.split('='), log: process.env.LOG, rewriteHost: process.env.REWRITE_HOST === 'own' ? 'own' : process.env.REWRITE_HOST === '1',
  });
  console.log(`shim on http://127.0.0.1:${port} in front of ${upstream}${change ? `, ${change}` : ''}`);
}
