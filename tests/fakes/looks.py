"""What every page of ours is asked in a browser, as scripts that run in it, and what the browser asked of the network."""

import json

OPEN_ALL = "document.querySelectorAll('details').forEach((part) => { part.open = true; });"
OVERFLOWING = """
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter((part) => part.getBoundingClientRect().right > width + 1 && !part.closest('.scroll, pre, .skip, svg, thead'))
  .map((part) => part.tagName + '.' + part.className);
"""
CONTRASTS = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgb = (colour) => {
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const luminance = (colour) => {
  const [r, g, b] = rgb(colour).map((value) => value / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (part) => {
  for (; part; part = part.parentElement) {
    const colour = getComputedStyle(part).backgroundColor;
    if (colour !== 'rgba(0, 0, 0, 0)' && colour !== 'transparent') return colour;
  }
  return 'white';
};
const contrast = (a, b) => { const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
return [...document.querySelectorAll('h1, h2, h3, p, li, td, th, dt, dd, summary, a, .badge, .quiet, .apart, caption, pre, svg text')]
  .filter((part) => part.textContent.trim() && part.getClientRects().length)
  .map((part) => [part.tagName + '.' + (part.className.baseVal ?? part.className),
                  contrast(part.tagName === 'text' ? getComputedStyle(part).fill : getComputedStyle(part).color, behind(part))])
  .filter(([, value]) => value < 4.5);
"""
"""Contrast of text as WCAG 2.2 defines it (relative luminance); 4.5 is level AA for small text."""


def requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [address for address in sent if not address.startswith("data:")]
