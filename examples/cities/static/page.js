// The page: what is typed is searched for as it is typed, and a country's name, wherever it stands, opens its panel.

const PAUSE = 120 // milliseconds without a key before a search starts

const find = id => document.getElementById(id)
const input = find("query")
const results = find("results")
const panel = find("country")
const formatted = number => new Intl.NumberFormat("en").format(number)

// Return a new element with a class name and children, which may be texts.
function element(tag, className, ...children) {
  const made = document.createElement(tag)
  made.className = className
  made.append(...children)
  return made
}

// Return what the server answers, or throw an Error whose message is fit to be shown.
async function getJSON(url, signal) {
  let answer, data
  try {
    answer = await fetch(url, {signal})
    data = await answer.json()
  } catch {
    throw new Error(answer ? `The server's answer (${answer.status}) makes no sense.` : "The server cannot be reached.")
  }
  if (!answer.ok) throw new Error(data.error)
  return data
}

// Each search stops the one before it: an answer that comes too late is never shown.
let running = new AbortController()

async function search() {
  running.abort()
  running = new AbortController()
  const {signal} = running
  const query = input.value.trim()
  const address = query ? `?q=${encodeURIComponent(query)}` : ""
  history.replaceState(null, "", location.pathname + address)
  try {
    const {cities} = await getJSON(query ? `/search${address}` : "/biggest", signal)
    if (!signal.aborted) show(cities, countText(cities.length, query))
  } catch (error) {
    if (!signal.aborted) show([], "", error.message)
  }
}

function countText(count, query) {
  if (!query) return `The ${count} biggest cities`
  if (count === 0) return `No city begins with “${query}”`
  if (count === 20) return `The 20 biggest cities that begin with “${query}”`
  return count === 1 ? `1 city begins with “${query}”` : `${count} cities begin with “${query}”`
}

// Return a link to a country. In a new tab or window it shows the JSON.
function countryLink(code, name) {
  const link = element("a", "country", name)
  link.href = `/country/${code}`
  return link
}

function show(cities, count, error = "") {
  find("count").textContent = count
  find("error").textContent = error
  results.replaceChildren(...cities.map(city =>
    element("li", "", element("span", "name", city.name), countryLink(city.country_code, city.country),
      element("span", "population", formatted(city.population)))))
}

async function openCountry(link) {
  find("error").textContent = ""
  link.setAttribute("aria-busy", "true")
  try {
    showCountry(await getJSON(link.href))
  } catch (error) {
    panel.close() // if it is open: the message stands below
    find("error").textContent = error.message
  }
  link.removeAttribute("aria-busy")
}

function showCountry(country) {
  find("country-place").textContent = `${country.continent} · ${country.code}`
  find("country-name").textContent = country.name
  const facts = {
    Capital: country.capital,
    Population: formatted(country.population),
    Area: `${formatted(country.area)} km²`,
    Currency: country.currency,
    Cities: formatted(country.city_count),
    "People in them": formatted(country.city_population),
  }
  find("country-facts").replaceChildren(...Object.entries(facts).map(([name, value]) =>
    element("div", "", element("dt", "", name), element("dd", "", value || "none"))))
  find("country-cities").replaceChildren(...country.cities.map(city => {
    const row = element("li", "", element("span", "name", city.name),
      element("span", "population", formatted(city.population)))
    row.style.setProperty("--share", city.population / country.cities[0].population)
    return row
  }))
  find("country-continent").textContent = `Also in ${country.continent}`
  find("country-others").replaceChildren(...country.others.map(other =>
    element("li", "", countryLink(other.code, other.name))))
  if (!panel.open) panel.showModal()
  panel.scrollTop = 0
  find("country-name").focus()
}

let pause
input.addEventListener("input", () => {
  clearTimeout(pause)
  pause = setTimeout(search, PAUSE)
})
input.form.addEventListener("submit", event => {
  event.preventDefault()
  clearTimeout(pause)
  search()
})

document.addEventListener("click", event => {
  const link = event.target.closest("a.country")
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return // for a new tab or window
  event.preventDefault()
  openCountry(link)
})
panel.addEventListener("click", event => {
  if (event.target === panel) panel.close() // on the backdrop
})

// The arrow keys walk from the input through the results' links and back.
document.querySelector("main").addEventListener("keydown", event => {
  const step = {ArrowDown: 1, ArrowUp: -1}[event.key]
  const stops = [input, ...results.querySelectorAll("a")]
  const next = stops[stops.indexOf(document.activeElement) + step]
  if (!next) return
  event.preventDefault()
  next.focus()
})

input.value = new URLSearchParams(location.search).get("q") ?? input.value
search()
getJSON("/stats").then(stats => {
  find("worker").textContent = `, by ${stats.worker}`
  find("stats").textContent = `${formatted(stats.cities)} cities in ${formatted(stats.countries)} countries, home to `
    + `${formatted(Math.round(stats.population / 1e6))} million people`
}, () => {}) // a line of ornament: whatever is wrong, the list says so
