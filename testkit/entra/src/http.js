// The three things every part of the front does with HTTP.
import * as querystring from 'node:querystring';

const LARGEST_BODY = 1_000_000;

/** Answers with a page (a string) or with JSON (anything else). */
export function send(response, status, body, headers = {}) {
  const page = typeof body === 'string';
  response.writeHead(status, { 'content-type': page ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8', 'cache-control': 'no-store', ...headers });
  response.end(page ? body : JSON.stringify(body));
}

export function redirect(response, location) {
  response.writeHead(303, { location });
  response.end();
}

export async function readBody(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > LARGEST_BODY) throw new Error('the body is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

export const readForm = async request => querystring.parse(await readBody(request));
