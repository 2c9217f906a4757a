// Text whose colour is too near its ground: WCAG 2.2, 1.4.3, level AA, with the formulas of its
// definitions of contrast ratio and relative luminance. Text that is not drawn is passed over.
// The body of a function: arguments are the theme, and a selector of where to look.
const [theme, selector] = arguments;

function setTheme() {
  const still = document.createElement("style");
  still.textContent = "* { transition: none !important; animation: none !important }";
  document.head.append(still);
  document.documentElement.dataset.theme = theme;
}

// Red, green, blue in 0..1, and alpha.
function parse(text) {
  const [r, g, b, a = 1] = text.match(/[-+.\de]+(?=[\s,)/])/g).map(Number);
  return text.startsWith("color(") ? [r, g, b, a] : [r / 255, g / 255, b / 255, a];
}

function over(top, under) {
  return [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]).concat(1);
}

function ground(element) {
  const own = parse(getComputedStyle(element).backgroundColor);
  if (own[3] === 1) return own;
  return over(own, element.parentElement ? ground(element.parentElement) : [1, 1, 1, 1]);
}

function opacity(element) {
  return element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
}

function luminance(colour) {
  const [r, g, b] = colour.slice(0, 3)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(element) {
  const [r, g, b, a] = parse(getComputedStyle(element).color), under = ground(element);
  const front = over([r, g, b, a * opacity(element)], under);
  const [low, high] = [luminance(front), luminance(under)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function wanted(element) {
  const style = getComputedStyle(element), size = parseFloat(style.fontSize);
  return size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
}

function isDrawn(element) {
  return element.getClientRects().length > 0 && opacity(element) > 0
    && getComputedStyle(element).visibility !== "hidden"
    && !element.closest("script, style, noscript, .visually-hidden, mjx-assistive-mml");
}

setTheme();
const found = new Map(); // one complaint a kind of element
const walker = document.createTreeWalker(
  document.querySelector(selector) ?? document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
  if (!text || !isDrawn(element) || contrast(element) >= wanted(element)) continue;
  const name = `${element.tagName.toLowerCase()}.${element.className}`;
  const ratio = contrast(element).toFixed(2);
  found.set(name, `faint: ${name} "${text.slice(0, 30)}": ${ratio} < ${wanted(element)}`);
}
return [...found.values()];
